//! A socket, plain or under TLS, blocking or not.
//!
//! TLS stands between AMQP's bytes and the socket's, so it may hold some of either: input that was
//! decrypted and not yet read, and output that was encrypted and not yet taken by the socket. Who
//! waits for a socket must ask about both first.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, SignatureScheme,
};

use crate::output::BULK_BYTES;

/// A connected socket of either kind (`std::net` or `mio::net`).
#[derive(Debug)]
pub(crate) struct Stream<S> {
    socket: S,
    tls: Option<Box<ClientConnection>>,
}

impl Stream<TcpStream> {
    pub(crate) fn plain(socket: TcpStream) -> Self {
        Self { socket, tls: None }
    }

    /// Shakes hands with a server that is to prove that it is `host`.
    pub(crate) fn secured(
        mut socket: TcpStream,
        config: &Arc<ClientConfig>,
        host: &str,
    ) -> Result<Self> {
        let name = ServerName::try_from(host.to_owned())
            .with_context(|| format!("{host:?} is no name that a certificate could have"))?;
        let mut tls = ClientConnection::new(Arc::clone(config), name).context("TLS")?;
        tls.set_buffer_limit(Some(BULK_BYTES));
        while tls.is_handshaking() {
            tls.complete_io(&mut socket).context(
                "TLS handshake failed (--ca-cert names a root to trust, --insecure trusts all)",
            )?;
        }
        Ok(Self {
            socket,
            tls: Some(Box::new(tls)),
        })
    }
}

impl<S> Stream<S> {
    /// The same connection with its socket in another's hands.
    pub(crate) fn map_socket<T>(self, map: impl FnOnce(S) -> T) -> Stream<T> {
        Stream {
            socket: map(self.socket),
            tls: self.tls,
        }
    }

    pub(crate) fn socket(&self) -> &S {
        &self.socket
    }

    pub(crate) fn socket_mut(&mut self) -> &mut S {
        &mut self.socket
    }

    /// Whether a read that didn't fill its room may have left something: TLS brings a record a
    /// read, whatever the socket holds.
    #[inline]
    pub(crate) fn reads_in_parts(&self) -> bool {
        self.tls.is_some()
    }

    /// Whether there is output that only the socket hasn't taken: `flush` hands it over.
    #[inline]
    pub(crate) fn holds_output(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.wants_write())
    }
}

impl<S: Read + Write> Read for Stream<S> {
    #[inline]
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        match &mut self.tls {
            None => self.socket.read(room),
            Some(tls) => read_secured(tls, &mut self.socket, room),
        }
    }
}

impl<S: Read + Write> Write for Stream<S> {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.tls.is_none() {
            return self.socket.write(bytes);
        }
        // What was begun goes first: TLS would take more and more otherwise.
        self.flush()?;
        let Some(tls) = &mut self.tls else {
            return Ok(0);
        };
        let taken = tls.writer().write(bytes)?;
        match self.flush() {
            Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
            _ => Ok(taken),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        if let Some(tls) = &mut self.tls {
            while tls.wants_write() {
                tls.write_tls(&mut self.socket)?;
            }
        }
        Ok(())
    }
}

fn read_secured(
    tls: &mut ClientConnection,
    socket: &mut impl Read,
    room: &mut [u8],
) -> io::Result<usize> {
    loop {
        match tls.reader().read(room) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            // A broker may close the socket without TLS's goodbye.
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(0),
            other => return other,
        }
        tls.read_tls(socket)?;
        tls.process_new_packets()
            .map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
    }
}

/// Whom to trust: the roots of a file, or those of the system, or everybody.
pub(crate) fn client_config(ca_cert: Option<&Path>, insecure: bool) -> Result<Arc<ClientConfig>> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .context("TLS")?;
    if insecure {
        let verifier = Arc::new(TrustsAll(provider));
        let builder = builder
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        return Ok(Arc::new(builder.with_no_client_auth()));
    }
    let mut roots = RootCertStore::empty();
    match ca_cert {
        Some(path) => {
            let context = || format!("--ca-cert {}", path.display());
            for certificate in CertificateDer::pem_file_iter(path).with_context(context)? {
                roots
                    .add(certificate.with_context(context)?)
                    .with_context(context)?;
            }
            ensure!(
                !roots.is_empty(),
                "{}: no certificate in it",
                path.display()
            );
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            ensure!(
                !roots.is_empty(),
                "the system has no root certificates: name one with --ca-cert"
            );
        }
    }
    Ok(Arc::new(
        builder.with_root_certificates(roots).with_no_client_auth(),
    ))
}

/// For --insecure: any certificate will do, as long as the server holds its key.
#[derive(Debug)]
struct TrustsAll(Arc<CryptoProvider>);

impl ServerCertVerifier for TrustsAll {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
#[path = "stream_tests.rs"]
mod tests;
