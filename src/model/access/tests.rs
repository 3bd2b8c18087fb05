//! Who may do what, without a wire.

use super::*;
use crate::base::settings::{Secret, User as ConfiguredUser};
use crate::model::administration::{Administered, Permission as StoredPermission, TopicPermission};

fn name(text: &str) -> Name {
    Name::from(text)
}

fn configured(user: &str, is_fallback: bool) -> ConfiguredUser {
    ConfiguredUser {
        name: name(user),
        password: Secret::new("clear"),
        tags: vec![],
        vhosts: Pattern::exactly("/"),
        permissions: Permissions::default(),
        is_fallback,
    }
}

/// With the password `guest`.
fn stored(user: &str, tags: &[&str]) -> Administered {
    Administered::User(administration::User {
        name: name(user),
        password_hash: "+pHuxkR9fCyrrwXjOD4BP4XbzO3l8LJr8YkThMgJ0yVHFRE+".to_owned(),
        hashing_algorithm: "rabbit_password_hashing_sha256".to_owned(),
        tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
        limits: BTreeMap::new(),
    })
}

fn permission(user: &str, configure: &str, write: &str, read: &str) -> Administered {
    Administered::Permission(StoredPermission {
        user: name(user),
        vhost: name("/"),
        configure: configure.to_owned(),
        write: write.to_owned(),
        read: read.to_owned(),
    })
}

fn topics(user: &str, write: &str, read: &str) -> Administered {
    Administered::TopicPermission(TopicPermission {
        user: name(user),
        vhost: name("/"),
        exchange: name("amq.topic"),
        write: write.to_owned(),
        read: read.to_owned(),
    })
}

fn access(users: Vec<ConfiguredUser>, things: Vec<Administered>) -> (Access, Vec<String>) {
    let settings = Settings {
        users,
        ..Settings::default()
    };
    let mut administration = Administration::default();
    for thing in things {
        administration.set(thing);
    }
    Access::new(&settings, &administration)
}

fn granted(users: Vec<ConfiguredUser>, things: Vec<Administered>) -> Access {
    let (access, lines) = access(users, things);
    assert!(lines.is_empty(), "{lines:?}");
    access
}

#[test]
fn each_permission_has_a_pattern_of_its_own() {
    let access = granted(
        vec![],
        vec![stored("u", &[]), permission("u", "^c", "^w", "^r")],
    );
    let may = |permission, queue: &str| {
        let queue = name(queue);
        let resource = Resource::Queue(&queue);
        let result = access.check(&name("u"), &name("/"), permission, resource);
        result.is_ok()
    };
    for (permission, own) in [
        (Permission::Configure, "c1"),
        (Permission::Write, "w1"),
        (Permission::Read, "r1"),
    ] {
        for queue in ["c1", "w1", "r1"] {
            assert_eq!(
                may(permission, queue),
                queue == own,
                "{permission:?} {queue}"
            );
        }
    }
}

#[test]
fn a_refusal_has_the_words_of_rabbitmq() {
    let access = granted(vec![], vec![stored("u", &[]), permission("u", "", "", "")]);
    let refusal = |permission, resource: Resource<'_>| {
        let result = access.check(&name("u"), &name("/"), permission, resource);
        result.expect_err("refused").to_string()
    };
    assert_eq!(
        refusal(Permission::Configure, Resource::Queue(&name("q"))),
        "configure access to queue 'q' in vhost '/' refused for user 'u'"
    );
    assert_eq!(
        refusal(Permission::Write, Resource::Exchange(&name(""))),
        "write access to exchange 'amq.default' in vhost '/' refused for user 'u'"
    );
}

#[test]
fn who_has_no_permission_in_a_vhost_may_not_open_it_and_does_nothing_there() {
    let access = granted(vec![configured("u", false)], vec![]);
    let resource = name("q");
    let check = |vhost: &str| {
        let (user, vhost) = (name("u"), name(vhost));
        let resource = Resource::Queue(&resource);
        let result = access.check(&user, &vhost, Permission::Read, resource);
        (access.may_open(&user, &vhost), result.is_ok())
    };
    assert_eq!(check("/"), (true, true));
    assert_eq!(check("other"), (false, false));
    assert!(!access.may_open(&name("nobody"), &name("/")));
}

#[test]
fn topic_permissions_restrict_keys_of_their_exchange_only() {
    let access = granted(
        vec![],
        vec![
            stored("u.x", &[]),
            permission("u.x", ".*", ".*", ".*"),
            topics("u.x", "^{username}\\.{vhost}", "^{client_id}$"),
        ],
    );
    let may = |permission, exchange: &str, key: &str| {
        let (user, vhost) = (name("u.x"), name("/"));
        let result = access.check_topic(&user, &vhost, permission, &name(exchange), key.as_bytes());
        result.map_err(|error| error.to_string())
    };
    assert_eq!(may(Permission::Write, "amq.topic", "u.x./.a"), Ok(()));
    assert_eq!(
        may(Permission::Write, "amq.topic", "uyx./.a"),
        Err(
            "write access to topic 'uyx./.a' in exchange 'amq.topic' in vhost '/' refused for user 'u.x'"
                .to_owned()
        )
    );
    assert_eq!(may(Permission::Write, "other", "uyx./.a"), Ok(()));
    assert_eq!(may(Permission::Read, "amq.topic", "{client_id}"), Ok(()));
    assert!(may(Permission::Read, "amq.topic", "u.x./.a").is_err());
}

#[test]
fn a_stored_user_takes_the_place_of_a_configured_one_with_all_its_rights() {
    let users = || vec![configured("alice", false), configured("guest", true)];
    let (access, lines) = access(users(), vec![stored("alice", &["impersonator"])]);
    assert_eq!(
        lines,
        [
            "user 'alice' of the configuration has no effect: the data directory has one of that name"
        ]
    );
    assert!(access.log_in(b"alice", b"clear").is_none());
    let alice = access.log_in(b"alice", b"guest").expect("stored");
    assert!(alice.is_impersonator);
    assert!(!access.may_open(&name("alice"), &name("/")));
    assert!(
        access.log_in(b"guest", b"clear").is_none(),
        "nobody has asked for guest"
    );
    let access = granted(users(), vec![]);
    assert!(access.log_in(b"alice", b"clear").is_some());
    assert!(
        access
            .log_in(b"guest", b"clear")
            .expect("configured")
            .loopback_only
    );
}

#[test]
fn what_can_not_be_understood_grants_nothing_and_is_named() {
    let mut unknown = stored("b", &[]);
    if let Administered::User(user) = &mut unknown {
        user.hashing_algorithm = "rot13".to_owned();
    }
    let (access, lines) = access(
        vec![],
        vec![
            stored("a", &[]),
            unknown,
            permission("a", "(", "", ""),
            permission("b", "", "", ""),
            permission("c", "", "", ""),
            topics("b", "(", ""),
        ],
    );
    assert_eq!(
        lines,
        [
            "user 'b' can't log in: the hashing algorithm 'rot13' is not known",
            "permission of user 'a' in vhost '/' has no effect: '(', to configure, is no regular expression that can be \
             used here: unclosed group",
            "permission of user 'c' in vhost '/' has no effect: there is no such user",
            "user 'b' may use no key of exchange 'amq.topic': '(', to write, is no regular expression that can be used \
             here: unclosed group",
        ]
    );
    assert!(!access.may_open(&name("a"), &name("/")));
    let key = access.check_topic(
        &name("b"),
        &name("/"),
        Permission::Read,
        &name("amq.topic"),
        b"k",
    );
    assert!(key.is_err());
}
