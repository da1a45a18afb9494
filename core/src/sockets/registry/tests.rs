use super::{
    super::{
        open::{self, How, Opened, Target},
        options::SocketOptions,
        record::{self, SocketKind},
    },
    *,
};

async fn target(text: &str) -> (Spec, Target) {
    let spec = Spec::parse(text).unwrap();
    let target = Target::resolve(&spec, std::path::Path::new("/"))
        .await
        .unwrap();
    (spec, target)
}

async fn opened(text: &str, kind: SocketKind, foreign: bool) -> (Record, OwnedFd) {
    let (spec, target) = target(text).await;
    let how = How {
        kind,
        options: &SocketOptions::new(),
        beside: false,
    };
    let Opened { fd, path, .. } = open::open(how, &target).unwrap();
    let address = record::address(&fd).unwrap().to_string();
    (
        Record {
            name: spec.name,
            kind,
            address,
            foreign,
            path,
            access: Default::default(),
        },
        fd,
    )
}

async fn found(registry: &mut Registry, text: &str, kind: SocketKind) -> Option<String> {
    let (spec, target) = target(text).await;
    let name = registry.reserve(&spec).unwrap();
    let wish = Wish {
        spec: &spec,
        kind,
        target: &target,
        options: &SocketOptions::new(),
    };
    let claimed = registry.claim(&name, wish).unwrap()?;
    Some(record::address(&claimed.fd).unwrap().to_string())
}

#[tokio::test]
async fn port_zero_matches_by_name_only() {
    use SocketKind::{Tcp, Udp};
    let mut registry = Registry::default();
    let socket = opened("127.0.0.1:0", Tcp, false).await;
    let address = socket.0.address.clone();
    registry.inherit(vec![socket]);
    assert_eq!(found(&mut registry, "other=127.0.0.1:0", Tcp).await, None);
    assert_eq!(found(&mut registry, "udp=127.0.0.1:0", Udp).await, None);
    assert_eq!(found(&mut registry, "[::1]:0", Tcp).await, None);
    assert_eq!(
        found(&mut registry, "127.0.0.1:0", Tcp).await,
        Some(address)
    );
    assert_eq!(
        found(&mut registry, "127.0.0.1:0", Tcp).await,
        None,
        "only once"
    );
}

#[tokio::test]
async fn a_renamed_address_is_found_and_a_changed_one_is_not() {
    use SocketKind::Tcp;
    let mut registry = Registry::default();
    let (record, fd) = opened("web=127.0.0.1:0", Tcp, false).await;
    let address = record.address.clone();
    registry.inherit(vec![(record, fd)]);
    assert_eq!(
        found(&mut registry, "web=127.0.0.1:1", Tcp).await,
        None,
        "another port"
    );
    let wildcard = address.replace("127.0.0.1", "0.0.0.0");
    assert_eq!(
        found(&mut registry, &wildcard, Tcp).await,
        None,
        "another host"
    );
    let renamed = address.replace("127.0.0.1", "api=localhost");
    assert_eq!(found(&mut registry, &renamed, Tcp).await, Some(address));
    assert_eq!(
        registry.for_successor(None).unwrap().sockets()[0]
            .record
            .name,
        "api"
    );
}

#[tokio::test]
async fn an_administrators_name_goes_before_the_address() {
    let mut registry = Registry::default();
    let socket = opened("web=127.0.0.1:0", SocketKind::Tcp, true).await;
    let address = socket.0.address.clone();
    registry.inherit(vec![socket]);
    let found = found(&mut registry, "web=0.0.0.0:80", SocketKind::Tcp).await;
    assert_eq!(found, Some(address));
}

#[tokio::test]
async fn of_several_addresses_the_socket_that_came_first_is_found_and_each_once() {
    use SocketKind::{Tcp, Udp};
    let mut registry = Registry::default();
    let two = [
        opened("second=127.0.0.1:0", Tcp, false).await,
        opened("first=127.0.0.1:0", Tcp, false).await,
    ];
    let bound = two.each_ref().map(|(_, fd)| record::address(fd).unwrap());
    let bound = bound.map(|address| address.as_socket_addr().unwrap());
    let target = Target::Ip(vec![bound[1], bound[0]]);
    // Searched before, for another kind, and something comes after.
    let [one, other] = two;
    registry.inherit(vec![one]);
    assert_eq!(registry.find("host", Udp, &target), None);
    registry.inherit(vec![other]);
    for place in [0, 1] {
        assert_eq!(registry.find("host", Tcp, &target), Some(place));
        assert!(registry.inherited.take(place).is_some());
    }
    assert_eq!(registry.find("host", Tcp, &target), None);
}

#[tokio::test]
async fn names_are_numbered_or_refused() {
    let mut registry = Registry::default();
    let (spec, _) = target("127.0.0.1:0").await;
    assert_eq!(registry.reserve(&spec).unwrap(), "127.0.0.1:0");
    assert_eq!(registry.reserve(&spec).unwrap(), "127.0.0.1:0#2");
    registry.release("127.0.0.1:0#2");
    assert_eq!(registry.reserve(&spec).unwrap(), "127.0.0.1:0#2");
    let (spec, _) = target("a=127.0.0.1:0").await;
    registry.reserve(&spec).unwrap();
    assert!(registry.reserve(&spec).unwrap_err().is_address());
}

#[tokio::test]
async fn an_unused_socket_file_goes_with_its_socket() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let mut registry = Registry::default();
    let text = format!("unix:{}", path.display());
    registry.inherit(vec![opened(&text, SocketKind::Unix, false).await]);
    assert_eq!(registry.close_unused(), 1);
    assert!(path.exists(), "the predecessor may come back");
    registry.remove_unused_paths();
    assert!(!path.exists());
}

#[tokio::test]
async fn an_error_says_where_and_by_which_name() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let options = SocketOptions::new();
    for (text, said) in [
        (
            format!("web={address}"),
            format!("cannot listen on {address}, named web"),
        ),
        (
            format!("localhost:{}", address.port()),
            format!("cannot listen on localhost:{}", address.port()),
        ),
    ] {
        // One address: the host may have another one, on which nobody listens.
        let (spec, _) = target(&text).await;
        let target = Target::Ip(vec![address]);
        let wish = Wish {
            spec: &spec,
            kind: SocketKind::Tcp,
            target: &target,
            options: &options,
        };
        let err = Registry::default().obtain(wish).unwrap_err();
        assert_eq!(err.to_string(), said);
    }
}
