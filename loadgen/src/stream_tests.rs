//! TLS against a server of rustls's own, that sends back what it receives.

use std::net::TcpListener;
use std::thread::{self, JoinHandle};

use mio::{Events, Interest, Poll, Token};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;

use super::*;

/// Much more than sockets and TLS hold at once.
const BYTES: usize = 48 << 20;

/// A server with a certificate of its own for one connection, and that certificate as PEM.
fn echo_server() -> (u16, String, JoinHandle<io::Result<()>>) {
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()])
        .expect("a name that can be certified");
    let key = PrivateKeyDer::try_from(certified.signing_key.serialize_der()).expect("a valid key");
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring has all that they need")
        .with_no_client_auth()
        .with_single_cert(vec![certified.cert.der().clone()], key)
        .expect("key and certificate match");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("it is bound").port();
    let server = thread::spawn(move || {
        let (mut socket, _) = listener.accept()?;
        let mut tls = rustls::ServerConnection::new(Arc::new(config)).map_err(io::Error::other)?;
        let mut stream = rustls::Stream::new(&mut tls, &mut socket);
        let mut piece = [0; 16 << 10];
        loop {
            let count = stream.read(&mut piece)?;
            if count == 0 {
                return Ok(());
            }
            stream.write_all(&piece[..count])?;
        }
    });
    (port, certified.cert.pem(), server)
}

fn connect(port: u16, config: &Arc<ClientConfig>) -> Result<Stream<TcpStream>> {
    let socket = TcpStream::connect(("127.0.0.1", port)).expect("the server listens");
    Stream::secured(socket, config, "localhost")
}

fn trusting(pem: &str) -> Arc<ClientConfig> {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), pem).expect("it is writable");
    client_config(Some(file.path()), false).expect("a certificate")
}

#[test]
fn bytes_come_back_through_a_non_blocking_socket_under_tls() {
    let (port, pem, server) = echo_server();
    let stream = connect(port, &trusting(&pem)).expect("a trusted server");
    stream.socket().set_nonblocking(true).expect("a socket");
    let mut stream = stream.map_socket(mio::net::TcpStream::from_std);
    let mut poll = Poll::new().expect("epoll");
    let interest = Interest::READABLE | Interest::WRITABLE;
    poll.registry()
        .register(stream.socket_mut(), Token(0), interest)
        .expect("epoll");
    let sent: Vec<u8> = (0..BYTES).map(|at| (at % 251) as u8).collect();
    let (mut written, mut received) = (0, Vec::new());
    let mut events = Events::with_capacity(8);
    let mut room = vec![0; 64 << 10];
    let mut was_held_up = false;
    while received.len() < BYTES {
        // Edge-triggered: go on with both until the socket would block.
        let writing = loop {
            let outcome = match written {
                BYTES if !stream.holds_output() => break None,
                BYTES => stream.flush().map(|()| 0),
                _ => stream.write(&sent[written..]),
            };
            match outcome {
                Ok(count) => written += count,
                Err(error) => break Some(error),
            }
        };
        let reading = loop {
            match stream.read(&mut room) {
                Ok(0) => panic!("the server hung up"),
                Ok(count) => received.extend_from_slice(&room[..count]),
                Err(error) => break error,
            }
        };
        for error in writing.iter().chain([&reading]) {
            assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}");
        }
        was_held_up |= writing.is_some();
        if received.len() < BYTES {
            poll.poll(&mut events, None).expect("epoll");
        }
    }
    assert!(received == sent, "other bytes came back");
    assert!(was_held_up, "the socket took it all: BYTES is too small");
    drop(stream);
    // The client hangs up without a goodbye, which the server may call an error.
    let _ = server.join().expect("the server didn't panic");
}

#[test]
fn an_unknown_server_is_trusted_only_if_asked_to() {
    let another = rcgen::generate_simple_self_signed(["localhost".to_owned()])
        .expect("a name that can be certified");
    let (port, _, server) = echo_server();
    let refusal = connect(port, &trusting(&another.cert.pem())).expect_err("not to be trusted");
    assert!(
        format!("{refusal:#}").contains("invalid peer certificate"),
        "{refusal:#}"
    );
    assert!(
        server.join().expect("no panic").is_err(),
        "the server was told"
    );
    let (port, _, server) = echo_server();
    let config = client_config(None, true).expect("nothing is needed for it");
    let mut stream = connect(port, &config).expect("--insecure");
    stream.write_all(b"hare").expect("connected");
    let mut back = [0; 4];
    stream.read_exact(&mut back).expect("connected");
    assert_eq!(&back, b"hare");
    drop(stream);
    let _ = server.join().expect("no panic");
}

#[test]
fn a_root_that_cannot_be_read_is_named() {
    let error = client_config(Some(Path::new("/nonexistent.pem")), false).expect_err("no file");
    assert!(
        format!("{error:#}").contains("/nonexistent.pem"),
        "{error:#}"
    );
}
