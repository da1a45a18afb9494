//! Certificates from files, read anew; client certificates; what handlers see.

mod support;

use std::{fs, os::unix::fs::PermissionsExt};

use handover::Graceful;
use handover_tests::tls::Certificates;
use handover_tls::Tls;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use self::support::{Server, VERSIONS, client_of, get, tls};

fn shown(tls: &TlsStream<TcpStream>) -> Vec<u8> {
    tls.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_after_a_reload() {
    let certificates = Certificates::new().unwrap();
    let server = Server::start(tls(&certificates).load().unwrap(), Graceful::new()).await;
    let client = certificates.client().unwrap().without_sessions();
    let mut open = client.connect(server.addr).await.unwrap();
    let old = shown(&open);
    certificates.renew().unwrap();
    assert_eq!(shown(&client.connect(server.addr).await.unwrap()), old);
    server.tls.reload().unwrap();
    assert_ne!(shown(&client.connect(server.addr).await.unwrap()), old);
    get(&mut open).await.unwrap();
}

#[tokio::test]
async fn a_bad_file_keeps_the_old_certificate_and_is_named() {
    let certificates = Certificates::new().unwrap();
    let server = Server::start(tls(&certificates).load().unwrap(), Graceful::new()).await;
    let client = certificates.client().unwrap().without_sessions();
    let old = shown(&client.connect(server.addr).await.unwrap());
    let (cert, key) = (certificates.certificate(), certificates.key());
    let good = (fs::read(&cert).unwrap(), fs::read(&key).unwrap());
    let other = certificates.issue().unwrap().1.serialize_pem();
    let half = good.0[..good.0.len() / 2].to_vec();
    let cases: [(&str, Option<&[u8]>, &str); 7] = [
        ("cert.pem", None, "No such file"),
        ("cert.pem", Some(b""), "there is no certificate in it"),
        ("cert.pem", Some(&good.1), "there is no certificate in it"),
        ("cert.pem", Some(&half), "cert.pem"),
        ("key.pem", None, "No such file"),
        ("key.pem", Some(&good.0), "there is no private key in it"),
        // Half of a renewal.
        ("key.pem", Some(other.as_bytes()), "cert.pem with the key"),
    ];
    for (name, content, says) in cases {
        let path = certificates.path(name);
        match content {
            None => fs::remove_file(&path).unwrap(),
            Some(content) => fs::write(&path, content).unwrap(),
        }
        let error = server.tls.reload().unwrap_err().to_string();
        assert!(error.contains(name) && error.contains(says), "{error}");
        assert_eq!(shown(&client.connect(server.addr).await.unwrap()), old);
        // Nor does a process start with it.
        let error = tls(&certificates).load().unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
        fs::write(&cert, &good.0).unwrap();
        fs::write(&key, &good.1).unwrap();
    }
    // What is not a key is not shown either.
    fs::write(
        &key,
        b"-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n",
    )
    .unwrap();
    let error = server.tls.reload().unwrap_err().to_string();
    assert!(
        !error.contains("c2VjcmV0") && !error.contains("secret"),
        "{error}"
    );
}

#[tokio::test]
async fn a_configuration_of_ones_own_is_served_and_changed() {
    let certificates = Certificates::new().unwrap();
    let made = |certificates: &Certificates| tls(certificates).load().unwrap().config();
    let tls = Tls::new(made(&certificates));
    let server = Server::start(tls, Graceful::new()).await;
    let client = certificates.client().unwrap().without_sessions();
    let old = shown(&client.connect(server.addr).await.unwrap());
    assert!(
        server
            .tls
            .reload()
            .unwrap_err()
            .to_string()
            .contains("set_config")
    );
    certificates.renew().unwrap();
    server.tls.set_config(made(&certificates));
    assert_ne!(shown(&client.connect(server.addr).await.unwrap()), old);
}

#[tokio::test]
async fn handlers_see_what_was_agreed() {
    let certificates = Certificates::new().unwrap();
    let tls = tls(&certificates).request_client_certificates(certificates.authority());
    let server = Server::start(tls.load().unwrap(), Graceful::new()).await;
    for (version, name) in VERSIONS.into_iter().zip(["TLSv1_2", "TLSv1_3"]) {
        let client = client_of(&certificates, version);
        for resumed in [false, true] {
            let mut tls = client.connect(server.addr).await.unwrap();
            let answer = get(&mut tls).await.unwrap();
            let facts =
                format!("{name} alpn=http/1.1 name=localhost resumed={resumed} clients=0\n");
            assert!(answer.ends_with(&facts), "{answer}");
        }
        let known = certificates
            .client_with(&[version], Some(certificates.issue().unwrap()))
            .unwrap();
        for resumed in [false, true] {
            let mut tls = known.connect(server.addr).await.unwrap();
            let answer = get(&mut tls).await.unwrap();
            let facts = format!("resumed={resumed} clients=1\n");
            assert!(answer.ends_with(&facts), "{answer}");
        }
    }
}

#[tokio::test]
async fn clients_without_a_good_certificate_are_refused_where_one_is_required() {
    let certificates = Certificates::new().unwrap();
    let strangers = Certificates::new().unwrap();
    let ca = certificates.authority();
    let asking = tls(&certificates).request_client_certificates(&ca);
    let demanding = tls(&certificates).require_client_certificates(&ca);
    for (builder, asks_only) in [(asking, true), (demanding, false)] {
        let server = Server::start(builder.load().unwrap(), Graceful::new()).await;
        for version in VERSIONS {
            let ask = async |own| {
                let client = certificates.client_with(&[version], own).unwrap();
                // TLS 1.3 tells the client only after its handshake.
                get(&mut client.connect(server.addr).await?).await
            };
            assert!(ask(Some(certificates.issue().unwrap())).await.is_ok());
            assert!(ask(Some(strangers.issue().unwrap())).await.is_err());
            assert_eq!(ask(None).await.is_ok(), asks_only);
        }
    }
    let error = tls(&certificates)
        .require_client_certificates(certificates.path("none.pem"))
        .load()
        .unwrap_err()
        .to_string();
    assert!(error.contains("none.pem"), "{error}");
}

#[tokio::test]
async fn a_session_is_not_resumed_under_other_rules_for_clients() {
    let certificates = Certificates::new().unwrap();
    let keys = handover_tls::TicketKeys::new().unwrap();
    let builder = tls(&certificates).tickets(keys);
    let open = Server::start(builder.clone().load().unwrap(), Graceful::new()).await;
    let closed = builder.require_client_certificates(certificates.authority());
    let closed = Server::start(closed.load().unwrap(), Graceful::new()).await;
    for version in VERSIONS {
        let client = client_of(&certificates, version);
        get(&mut client.connect(open.addr).await.unwrap())
            .await
            .unwrap();
        let mut again = client.connect(open.addr).await.unwrap();
        assert!(get(&mut again).await.unwrap().contains("resumed=true"));
        // The same client, with a good ticket, where a certificate is demanded.
        let asked = async { get(&mut client.connect(closed.addr).await?).await };
        assert!(asked.await.is_err());
    }
}

#[tokio::test]
async fn a_protocol_is_agreed_on_or_refused() {
    let certificates = Certificates::new().unwrap();
    let server = Server::start(tls(&certificates).load().unwrap(), Graceful::new()).await;
    let client = certificates.client().unwrap();
    let negotiated = async |alpn: &[&str]| {
        let tls = client.with_alpn(alpn).connect(server.addr).await?;
        let (_, session) = tls.get_ref();
        std::io::Result::Ok(session.alpn_protocol().map(<[u8]>::to_vec))
    };
    let both = negotiated(&["http/1.1", "h2"]).await.unwrap();
    assert_eq!(both.as_deref(), Some(&b"h2"[..]));
    let old = negotiated(&["http/1.1"]).await.unwrap();
    assert_eq!(old.as_deref(), Some(&b"http/1.1"[..]));
    assert_eq!(negotiated(&[]).await.unwrap(), None);
    assert!(negotiated(&["smtp"]).await.is_err());
}

#[tokio::test]
async fn a_signal_has_the_files_read_anew() {
    use tokio::signal::unix::SignalKind;

    let certificates = Certificates::new().unwrap();
    let server = Server::start(tls(&certificates).load().unwrap(), Graceful::new()).await;
    // Of no meaning to anybody else in this process.
    let kind = SignalKind::window_change();
    server.tls.reload_on(kind).unwrap();
    let client = certificates.client().unwrap().without_sessions();
    let old = shown(&client.connect(server.addr).await.unwrap());
    let key = certificates.key();
    certificates.renew().unwrap();
    let good = fs::read(&key).unwrap();
    let signal = || {
        let pid = std::process::id().to_string();
        let number = kind.as_raw_value().to_string();
        let sent = std::process::Command::new("kill")
            .args([format!("-{number}"), pid])
            .status();
        assert!(sent.unwrap().success());
    };
    // A bad one changes nothing, and is not the last word.
    fs::write(&key, b"").unwrap();
    signal();
    assert_eq!(shown(&client.connect(server.addr).await.unwrap()), old);
    fs::write(&key, good).unwrap();
    let renewed = async {
        while shown(&client.connect(server.addr).await.unwrap()) == old {
            signal();
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(support::BOUND, renewed).await.unwrap();
}

#[test]
fn a_file_that_may_not_be_read_is_named() {
    let certificates = Certificates::new().unwrap();
    let key = certificates.key();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o000)).unwrap();
    // To root all files are open.
    if fs::read(&key).is_err() {
        let error = tls(&certificates).load().unwrap_err().to_string();
        assert!(
            error.contains("key.pem") && error.contains("denied"),
            "{error}"
        );
    }
}
