//! Files taken over and written, without a disk.

use serde_json::{Value as Json, json};

use super::*;
use crate::model::definitions::Definitions;

fn file(json: &Json) -> DefinitionsFile {
    DefinitionsFile::read(json.to_string().as_bytes()).expect("well-formed")
}

fn context() -> ImportContext<'static> {
    ImportContext {
        vhosts: &[],
        default_limits: &[],
        default_queue_type: None,
        users: &[],
        cores: 2,
        seed: 7,
    }
}

fn imported(json: &Json) -> (Definitions, Vec<String>) {
    let mut definitions = Definitions::new(1);
    let left_out = definitions.import(file(json), context());
    (definitions, left_out.expect("nothing is wrong with it"))
}

fn error_on(mut definitions: Definitions, json: &Json) -> String {
    let error = definitions.import(file(json), context());
    error.expect_err("something is wrong with it").to_string()
}

fn error(json: &Json) -> String {
    error_on(Definitions::new(1), json)
}

/// A file with every kind of thing, as we write it.
fn whole() -> Json {
    json!({
        "users": [{
            "name": "u", "password_hash": "+pHuxkR9fCyrrwXjOD4BP4XbzO3l8LJr8YkThMgJ0yVHFRE+",
            "hashing_algorithm": "rabbit_password_hashing_sha256", "tags": ["monitoring"],
            "limits": {"max-channels": 2},
        }],
        "vhosts": [{
            "name": "v", "description": "d", "tags": ["t"], "metadata": {"description": "d", "tags": ["t"]},
        }],
        "permissions": [{"user": "u", "vhost": "v", "configure": "", "write": "^a", "read": ".*"}],
        "topic_permissions": [
            {"user": "u", "vhost": "v", "exchange": "x", "write": "^{username}", "read": ".*"},
        ],
        "parameters": [
            {"vhost": "v", "component": "vhost-limits", "name": "limits", "value": {"max-queues": 3}},
            {"vhost": "v", "component": "operator_policy", "name": "cap", "value": {
                "pattern": ".*", "apply-to": "queues", "definition": {"max-length": 9}, "priority": 1,
            }},
        ],
        "global_parameters": [{"name": "cluster_name", "value": "hare"}],
        "policies": [{
            "vhost": "v", "name": "p", "pattern": "^q", "apply-to": "all", "definition": {"expires": 5}, "priority": 2,
        }],
        "queues": [{
            "vhost": "v", "name": "q", "type": "quorum", "durable": true, "auto_delete": false,
            "arguments": {"x-queue-type": "quorum", "x-delivery-limit": 3},
        }],
        "exchanges": [{
            "vhost": "v", "name": "x", "type": "headers", "durable": true, "auto_delete": true, "internal": false,
            "arguments": {"alternate-exchange": "amq.fanout"},
        }],
        "bindings": [
            {"vhost": "v", "source": "amq.topic", "destination": "x", "destination_type": "exchange",
                "routing_key": "#", "arguments": {}},
            {"vhost": "v", "source": "x", "destination": "q", "destination_type": "queue", "routing_key": "k",
                "arguments": {"x-match": "any", "size": 5}},
        ],
    })
}

#[test]
fn what_was_imported_is_exported_again() {
    let (mut definitions, left_out) = imported(&whole());
    assert_eq!(left_out, [""; 0]);
    let read = |definitions: &Definitions| -> Json {
        serde_json::from_str(&definitions.export().write()).expect("it is JSON")
    };
    let mut exported = read(&definitions);
    let said = whole();
    for (category, list) in said.as_object().expect("it is one") {
        let mut found = exported[category].take();
        if category == "vhosts" {
            let vhosts = found.as_array_mut().expect("a list");
            assert_eq!(vhosts.remove(0)["name"], "/", "it is always there");
        }
        assert_eq!(found, *list, "{category}");
    }
    let again = definitions.import(definitions.export(), context());
    assert_eq!(again, Ok(vec![]), "what is alike is fine");
    assert_eq!(read(&definitions)["queues"], said["queues"]);
}

#[test]
fn what_is_there_and_unlike_is_an_error_that_names_it() {
    let queue =
        |arguments: Json| json!({"queues": [{"vhost": "/", "name": "q", "arguments": arguments}]});
    let there = || imported(&queue(json!({"x-max-length": 5}))).0;
    assert_eq!(
        error_on(there(), &queue(json!({"x-max-length": 6}))),
        "queue 'q' in vhost '/': there is one of that name already, with other properties or arguments"
    );
    let mut definitions = there();
    let alike = queue(json!({"x-max-length": 5, "x-queue-type": "classic"}));
    assert_eq!(definitions.import(file(&alike), context()), Ok(vec![]));
    let exchange = |kind| json!({"exchanges": [{"vhost": "/", "name": "x", "type": kind}]});
    assert_eq!(
        error_on(imported(&exchange("topic")).0, &exchange("fanout")),
        "exchange 'x' in vhost '/': there is one of that name already, with other properties or arguments"
    );
}

#[test]
fn what_can_not_be_is_an_error_that_names_it() {
    let cases = [
        (
            json!({"queues": [{"vhost": "none", "name": "q"}]}),
            "queue 'q' in vhost 'none': there is no vhost 'none'",
        ),
        (
            json!({"queues": [{"vhost": "/", "name": "q", "arguments": {"x-expires": 0}}]}),
            "queue 'q' in vhost '/': invalid arg 'x-expires' for queue 'q' in vhost '/': {value_zero,0}",
        ),
        (
            json!({"exchanges": [{"vhost": "/", "name": "x", "type": "x-odd"}]}),
            "exchange 'x' in vhost '/': unknown exchange type 'x-odd'",
        ),
        (
            json!({"permissions": [{"user": "u", "vhost": "/", "configure": "", "write": "", "read": ""}]}),
            "permission of user 'u' in vhost '/': there is no user 'u'",
        ),
        (
            json!({"users": [{"name": "u"}],
                "permissions": [{"user": "u", "vhost": "/", "configure": "", "write": "(?=a)", "read": ""}]}),
            "permission of user 'u' in vhost '/': '(?=a)', to write, is no regular expression that can be used here: \
             look-around, including look-ahead and look-behind, is not supported",
        ),
        (
            json!({"users": [{"name": "u", "password_hash": "AAAA", "hashing_algorithm": "bcrypt"}]}),
            "user 'u': the hashing algorithm 'bcrypt' is not known",
        ),
        (
            json!({"users": [{"name": "u", "password_hash": "AAAA", "password": "p"}]}),
            "user 'u': it has both a password and the hash of one",
        ),
        (
            json!({"policies": [{"vhost": "/", "name": "p", "pattern": "", "definition": 1}]}),
            "policy 'p' in vhost '/': its definition is no object",
        ),
    ];
    for (json, text) in cases {
        assert_eq!(error(&json), text);
    }
}

#[test]
fn what_clients_declare_for_themselves_is_left_out_and_named() {
    let (definitions, left_out) = imported(&json!({
        "queues": [
            {"vhost": "/", "name": "t", "durable": false}, {"vhost": "/", "name": "amq.gen-1"},
        ],
        "exchanges": [{"vhost": "/", "name": "e", "type": "direct", "durable": false}],
        "bindings": [
            {"vhost": "/", "source": "amq.direct", "destination": "t", "destination_type": "queue"},
            {"vhost": "/", "source": "e", "destination": "amq.fanout", "destination_type": "exchange"},
        ],
    }));
    assert_eq!(
        left_out,
        [
            "exchange 'e' in vhost '/' is left out: it is transient, so it is its users' to declare",
            "queue 't' in vhost '/' is left out: it is transient, so it is its users' to declare",
            "queue 'amq.gen-1' in vhost '/' is left out: its name is reserved",
            "binding '' from exchange 'amq.direct' to queue 't' in vhost '/' is left out: its destination is missing or \
             transient",
            "binding '' from exchange 'e' to exchange 'amq.fanout' in vhost '/' is left out: its source is missing or \
             transient",
        ]
    );
    assert!(definitions.export().bindings.is_empty());
}

#[test]
fn queues_are_spread_over_the_cores_and_numbered_apart() {
    let queues: Vec<_> = (0..4)
        .map(|number| json!({"vhost": "/", "name": format!("q{number}")}))
        .collect();
    let (definitions, _) = imported(&json!({ "queues": queues }));
    let places: Vec<_> = definitions
        .queues
        .iter()
        .map(|queue| (queue.incarnation, queue.owner.0))
        .collect();
    assert_eq!(places, [(1, 1), (2, 0), (3, 1), (4, 0)]);
    assert_eq!(definitions.next_incarnation(), 5);
}

#[test]
fn a_password_in_the_clear_is_hashed() {
    let json = json!({"users": [{"name": "u", "password": "hare", "tags": "a, b"}]});
    let (definitions, _) = imported(&json);
    let user = definitions.administration.users().next().expect("imported");
    assert_eq!(user.tags, ["a", "b"]);
    let password =
        Password::parse(&user.password_hash, &user.hashing_algorithm).expect("made here");
    assert!(password.matches(b"hare") && !password.matches(b"hase"));
}

#[test]
fn configured_users_and_vhosts_may_be_referred_to() {
    let (vhosts, users) = ([Name::from("v")], [Name::from("alice")]);
    let context = ImportContext {
        vhosts: &vhosts,
        users: &users,
        ..context()
    };
    let json = json!({"permissions": [{"user": "alice", "vhost": "v", "configure": "", "write": "", "read": ""}]});
    let mut definitions = Definitions::new(1);
    assert_eq!(definitions.import(file(&json), context), Ok(vec![]));
}

#[test]
fn a_vhost_gets_no_more_queues_than_it_may_have() {
    let limited = |queues: &[&str]| {
        let queues: Vec<Json> = queues
            .iter()
            .map(|name| json!({"vhost": "/", "name": name}))
            .collect();
        json!({
            "parameters": [
                {"vhost": "/", "component": "vhost-limits", "name": "limits", "value": {"max-queues": 2}},
            ],
            "exchanges": [{"vhost": "/", "name": "x", "type": "x-recent-history"}],
            "queues": queues,
        })
    };
    let (definitions, left_out) = imported(&limited(&["a", "b"]));
    assert_eq!(left_out, [""; 0], "the exchange's own doesn't count");
    assert_eq!(
        error_on(definitions, &limited(&["a", "b", "c"])),
        "queue 'c' in vhost '/': cannot declare queue 'c': queue limit in vhost '/' (2) is reached"
    );
}

#[test]
fn a_binding_is_checked_by_the_rules_of_its_source() {
    let bound = |kind: &str, key: &str, queue_type: &str| {
        json!({
            "exchanges": [{"vhost": "/", "name": "x", "type": kind}],
            "queues": [{"vhost": "/", "name": "q", "arguments": {"x-queue-type": queue_type}}],
            "bindings": [{"vhost": "/", "source": "x", "destination": "q", "destination_type": "queue",
                "routing_key": key, "arguments": {}}],
        })
    };
    imported(&bound("x-consistent-hash", "3", "classic"));
    imported(&bound("x-local-random", "", "classic"));
    for (kind, key, queue_type, reason) in [
        (
            "x-consistent-hash",
            "heavy",
            "classic",
            "The binding key must be an integer: <<\"heavy\">>",
        ),
        (
            "x-local-random",
            "key",
            "classic",
            "Non empty binding 'key' key not permitted",
        ),
        (
            "x-local-random",
            "",
            "quorum",
            "Queue type rabbit_quorum_queue not valid for this exchange type",
        ),
    ] {
        let error = error(&bound(kind, key, queue_type));
        assert!(error.ends_with(reason), "{error}");
    }
}

#[test]
fn vhosts_have_the_limits_of_the_configuration_unless_they_have_their_own() {
    let limits = DefaultLimits {
        vhosts: crate::base::Pattern::parse("^small").expect("well-formed"),
        connections: None,
        queues: Some(1),
    };
    let context = ImportContext {
        default_limits: &[limits],
        ..context()
    };
    let queues = |own: Json| {
        file(&json!({
            "vhosts": [{"name": "small"}],
            "parameters": own,
            "queues": [{"vhost": "small", "name": "a"}, {"vhost": "small", "name": "b"}],
        }))
    };
    let error = Definitions::new(1).import(queues(json!([])), context);
    assert_eq!(
        error.expect_err("one too many").to_string(),
        "queue 'b' in vhost 'small': cannot declare queue 'b': queue limit in vhost 'small' (1) is reached"
    );
    let own = json!([{"vhost": "small", "component": "vhost-limits", "name": "limits", "value": {"max-queues": 2}}]);
    assert_eq!(Definitions::new(1).import(queues(own), context), Ok(vec![]));
}

#[test]
fn a_queue_without_a_type_is_of_its_vhosts_or_the_configurations() {
    let queue = |vhost, name, auto_delete| json!({"vhost": vhost, "name": name, "auto_delete": auto_delete});
    let whole = |default: Json| {
        json!({
            "vhosts": [{"name": "v", "default_queue_type": default}, {"name": "w"}],
            "queues": [
                queue("v", "a", false), queue("v", "b", true), queue("w", "c", false),
                {"vhost": "v", "name": "d", "type": "classic"},
            ],
        })
    };
    let types = |definitions: &Definitions| {
        let queues = definitions.export().queues;
        let types = queues.iter().map(|queue| queue.queue_type.clone());
        types.map(Option::unwrap_or_default).collect::<Vec<_>>()
    };
    let (mut definitions, _) = imported(&whole(json!("quorum")));
    assert_eq!(
        types(&definitions),
        ["quorum", "classic", "classic", "classic"]
    );
    // Whatever the vhost says later, they stay what they are.
    for again in ["quorum", "classic"] {
        let file = file(&whole(json!(again)));
        assert_eq!(definitions.import(file, context()), Ok(vec![]), "{again}");
    }
    let mut definitions = Definitions::new(1);
    let by_configuration = ImportContext {
        default_queue_type: Some("quorum"),
        ..context()
    };
    let left_out = definitions.import(file(&whole(json!("undefined"))), by_configuration);
    assert_eq!(left_out, Ok(vec![]));
    assert_eq!(
        types(&definitions),
        ["quorum", "classic", "classic", "quorum"]
    );
    assert_eq!(
        error(&whole(json!("odd"))),
        "vhost 'v': unknown queue type 'odd'"
    );
}
