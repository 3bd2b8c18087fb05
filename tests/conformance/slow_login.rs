//! Users whose passwords were hashed by bcrypt: they log in as others do, and nobody waits for them.

use crate::support::broker::{Broker, scratch_directory};
use crate::support::home::Home;
use crate::support::login::{Login, begin};
use crate::support::raw::{Heard, Raw};
use amq_protocol::protocol::{AMQPClass, connection};
use serde_json::json;
use std::fs;
use std::time::{Duration, Instant};

/// `hare`, with a cost of 10, by libxcrypt's crypt(3).
const HASH: &str = "$2b$10$abcdefghijklmnopqrstuu4CvIxGNsLogfuXZ/wYeEZoYCamnAWrS";

/// A broker on one core, and with it what has to be kept until it ends, that has taken over a user of each name.
fn broker_with(users: &[(&str, &str)]) -> (Home, Broker) {
    let scratch = scratch_directory();
    let file = scratch.path().join("users.json");
    let entries: Vec<_> = users
        .iter()
        .map(|(algorithm, name)| {
            json!({"name": name, "password_hash": HASH, "hashing_algorithm": algorithm, "tags": ""})
        })
        .collect();
    let permissions: Vec<_> = users
        .iter()
        .map(|(_, name)| json!({"user": name, "vhost": "/", "configure": ".*", "write": ".*", "read": ".*"}))
        .collect();
    let definitions =
        json!({"users": entries, "vhosts": [{"name": "/"}], "permissions": permissions});
    fs::write(&file, definitions.to_string()).expect("the scratch directory is writable");
    let loading = format!(
        "load_definitions = {}\ndefault_users.guest.password = guest\n",
        file.display()
    );
    let home = Home::new(&loading);
    let broker = home.start(1);
    (home, broker)
}

fn login(user: &'static str, password: &'static str) -> Login {
    Login {
        user,
        password,
        ..Login::default()
    }
}

fn say_all(broker: &Broker, login: &Login) -> Raw {
    let mut raw = Raw::connect(broker.address);
    raw.send(&login.in_one_breath());
    raw.expect::<connection::Start>(0);
    raw
}

#[test]
fn whoever_has_the_password_of_a_bcrypt_hash_logs_in() {
    let users = [
        ("rabbit_password_hashing_bcrypt", "slow"),
        ("lavinmq_bcrypt", "lavin"),
    ];
    let (_home, broker) = broker_with(&users);
    for user in ["slow", "lavin"] {
        for mechanism in ["PLAIN", "AMQPLAIN"] {
            let right = Login {
                mechanism,
                ..login(user, "hare")
            };
            let channel = broker.login(&right).channel();
            channel.own_queue();
            let wrong = Login {
                mechanism,
                ..login(user, "hase")
            };
            let (mut raw, _) = begin(broker.address);
            raw.send_method(0, wrong.start_ok());
            let close = raw.expect::<connection::Close>(0);
            let text = format!(
                "ACCESS_REFUSED - Login was refused using authentication mechanism {mechanism}. \
                 For details see the broker logfile."
            );
            assert_eq!(
                (close.reply_code, close.reply_text.as_str()),
                (403, text.as_str())
            );
        }
    }
    // What is said before the answer waits for it.
    let mut hasty = say_all(&broker, &login("slow", "hare"));
    hasty.expect::<connection::Tune>(0);
    hasty.expect::<connection::OpenOk>(0);
    let mut wrong = say_all(&broker, &login("slow", "hase"));
    wrong.expect::<connection::Close>(0);
}

#[test]
fn others_go_on_while_a_password_is_checked() {
    let (_home, broker) = broker_with(&[("rabbit_password_hashing_bcrypt", "slow")]);
    let channel = broker.connect().channel();
    let queue = channel.own_queue();
    // Two who don't stay to hear it come first.
    for _ in 0..2 {
        drop(say_all(&broker, &login("slow", "hase")));
    }
    let begun = Instant::now();
    let mut raw = say_all(&broker, &login("slow", "hare"));
    let mut longest = Duration::ZERO;
    let heard = loop {
        let asked = Instant::now();
        channel.passive(&queue);
        longest = longest.max(asked.elapsed());
        match raw.hear(Duration::from_millis(1)) {
            Heard::Silence => {}
            Heard::Frame(frame) => break frame.method(),
            Heard::End => panic!("the login was refused"),
        }
    };
    assert!(
        matches!(
            heard,
            AMQPClass::Connection(connection::AMQPMethod::Tune(_))
        ),
        "{heard:?}"
    );
    let took = begun.elapsed();
    assert!(
        longest * 2 < took,
        "somebody else waited for {longest:?} of {took:?}"
    );
}

#[test]
fn a_hash_that_would_take_too_long_is_not_taken_over() {
    let scratch = scratch_directory();
    let file = scratch.path().join("users.json");
    let dear = HASH.replace("$10$", "$15$");
    let definitions = json!({"users": [{
        "name": "slow", "password_hash": dear,
        "hashing_algorithm": "rabbit_password_hashing_bcrypt", "tags": "",
    }]});
    fs::write(&file, definitions.to_string()).expect("the scratch directory is writable");
    let loading = format!("load_definitions = {}\n", file.display());
    let home = Home::new(&loading);
    let error = home
        .try_start("127.0.0.1:0", 1)
        .err()
        .expect("it is refused");
    let reason =
        "user 'slow': the password hash has a cost of 15, and 14 is the most that is taken";
    assert!(error.contains(reason), "{error}");
}
