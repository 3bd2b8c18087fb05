//! Where to connect to, and how.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Result, ensure};
use clap::Args;
use rustls::ClientConfig;
use serde::{Serialize, Serializer};

use crate::stream::client_config;
use crate::uri::Uri;

#[derive(Args, Debug)]
pub(super) struct BrokerOptions {
    /// Broker to connect to
    #[arg(
        short = 'h',
        long,
        default_value = "amqp://guest:guest@127.0.0.1:5672/"
    )]
    uri: Uri,
    /// With amqps://: a PEM file with the roots to trust [default: the system's]
    #[arg(long, value_name = "FILE", conflicts_with = "insecure")]
    ca_cert: Option<PathBuf>,
    /// With amqps://: trust any server
    #[arg(long)]
    insecure: bool,
    /// Heartbeat to ask for, in seconds: it counts if it is shorter than what the server proposes
    /// [default: 0, what that proposes]
    #[arg(
        short = 'b',
        long,
        value_name = "SECONDS",
        default_value_t = 0,
        hide_default_value = true
    )]
    heartbeat: u16,
}

/// The broker under load.
#[derive(Clone, Debug)]
pub(crate) struct Broker {
    pub(crate) uri: Uri,
    /// With amqps://.
    pub(crate) tls: Option<Arc<ClientConfig>>,
    /// The heartbeat to ask for, 0 for what the server proposes.
    pub(crate) heartbeat_s: u16,
}

impl BrokerOptions {
    pub(super) fn into_broker(self) -> Result<Broker> {
        ensure!(
            self.uri.tls || !(self.insecure || self.ca_cert.is_some()),
            "--ca-cert and --insecure are for amqps:// only"
        );
        let tls = match self.uri.tls {
            true => Some(client_config(self.ca_cert.as_deref(), self.insecure)?),
            false => None,
        };
        Ok(Broker {
            uri: self.uri,
            tls,
            heartbeat_s: self.heartbeat,
        })
    }
}

impl fmt::Display for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.uri.fmt(f)
    }
}

impl Serialize for Broker {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
