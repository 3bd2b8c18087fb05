//! Requests, one after the other, on a topology that changes as it is told.

use super::*;
use crate::amqp::table::TableWriter;

const VHOST: VhostId = VhostId(0);

fn user(index: u32) -> SessionId {
    SessionId {
        core: CoreId(1),
        index,
        generation: 0,
    }
}

fn canonical(table: TableWriter) -> Arguments {
    Arguments::parse(&table.into_bytes()).expect("written by us")
}

fn classic(name: &str) -> Request {
    Request::DeclareQueue {
        vhost: VHOST,
        name: Name::from(name),
        durable: false,
        exclusive: false,
        auto_delete: false,
        arguments: Arguments::default(),
        session: user(1),
        owner: CoreId(1),
    }
}

/// The request with something else about it.
macro_rules! with {
    ($request:expr, $variant:ident { $($field:ident: $value:expr),+ }) => {{
        let mut request = $request;
        if let Request::$variant { $($field),+, .. } = &mut request {
            $(*$field = $value;)+
        }
        request
    }};
}

fn exchange(name: &str, kind: &str) -> Request {
    Request::DeclareExchange {
        vhost: VHOST,
        name: Name::from(name),
        kind: Name::from(kind),
        durable: false,
        auto_delete: false,
        internal: false,
        owner: CoreId(0),
        arguments: Arguments::default(),
    }
}

fn auto_delete(name: &str) -> Request {
    with!(
        exchange(name, "fanout"),
        DeclareExchange { auto_delete: true }
    )
}

fn bind_queue(exchange: &str, queue: &str) -> Request {
    Request::BindQueue {
        vhost: VHOST,
        queue: Name::from(queue),
        exchange: Name::from(exchange),
        routing_key: Name::from("key"),
        arguments: Arguments::default(),
        session: user(1),
    }
}

fn unbind_queue(exchange: &str, queue: &str) -> Request {
    Request::UnbindQueue {
        vhost: VHOST,
        queue: Name::from(queue),
        exchange: Name::from(exchange),
        routing_key: Name::from("key"),
        arguments: Arguments::default(),
        session: user(1),
    }
}

fn bind_exchange(source: &str, destination: &str) -> Request {
    Request::BindExchange {
        vhost: VHOST,
        destination: Name::from(destination),
        source: Name::from(source),
        routing_key: Name::from("key"),
        arguments: Arguments::default(),
    }
}

fn delete_exchange(name: &str) -> Request {
    Request::DeleteExchange {
        vhost: VHOST,
        name: Name::from(name),
        if_unused: false,
    }
}

struct Catalog {
    topology: Topology,
    names: NameSource,
}

impl Catalog {
    fn new() -> Self {
        Self {
            topology: Topology::new(&[Name::from("/")], 1),
            names: NameSource::new(1),
        }
    }

    fn ask(&mut self, request: &Request) -> Result<Decision, (u16, String)> {
        let decision =
            decide(&self.topology, request, &mut self.names).map_err(|error| error.reply())?;
        for change in &decision.changes {
            self.topology.apply(change);
        }
        Ok(decision)
    }

    fn done(&mut self, request: &Request) {
        self.ask(request).expect("granted");
    }

    fn declared(&mut self, request: &Request) -> (QueueId, Name) {
        match self.ask(request).expect("granted").answer {
            Answer::QueueDeclared { id, name } => (id, name),
            answer => panic!("a queue was declared, not {answer:?}"),
        }
    }

    fn refused(&mut self, request: &Request) -> (u16, String) {
        self.ask(request).expect_err("refused")
    }

    fn has_exchange(&self, name: &str) -> bool {
        self.topology.exchange_by_name(VHOST, name).is_some()
    }
}

#[test]
fn an_equal_redeclaration_finds_the_same_queue_and_touches_it() {
    let mut catalog = Catalog::new();
    let (id, _) = catalog.declared(&classic("q"));
    assert_eq!(catalog.topology.queue_touches(id), Some(0));
    assert_eq!(catalog.declared(&classic("q\r\n")), (id, Name::from("q")));
    assert_eq!(catalog.topology.queue_touches(id), Some(1));
}

#[test]
fn a_proposal_to_delete_falls_before_a_later_declaration() {
    let mut catalog = Catalog::new();
    let (id, _) = catalog.declared(&classic("q"));
    catalog.declared(&classic("q"));
    let unless = |unless_touched_since| Request::DeleteQueue {
        id,
        unless_touched_since,
    };
    let stale = catalog.ask(&unless(Some(0))).expect("an answer");
    assert_eq!(stale.answer, Answer::Refused);
    assert!(catalog.topology.queue(id).is_some());
    assert_eq!(
        catalog.ask(&unless(Some(1))).expect("an answer").answer,
        Answer::Done
    );
    assert_eq!(catalog.topology.queue(id), None);
    let again = catalog.ask(&unless(None)).expect("an answer");
    assert_eq!(again, done(Vec::new()), "what is gone need not be deleted");
    let (next, _) = catalog.declared(&classic("q"));
    assert_eq!((next.index, next.generation), (id.index, id.generation + 1));
}

#[test]
fn the_server_names_queues_that_have_no_name() {
    let mut catalog = Catalog::new();
    let (first, name) = catalog.declared(&classic(""));
    let (second, other) = catalog.declared(&classic(""));
    assert_ne!((first, &name), (second, &other));
    assert_eq!(name.as_str().len(), "amq.gen-".len() + 22);
    assert!(name.as_str().starts_with("amq.gen-"));
    let again = catalog.refused(&classic(name.as_str()));
    assert_eq!(again.0, 403, "not even its own name may be declared");
    assert!(check_passive_queue(&catalog.topology, VHOST, &name, user(9)).is_ok());
}

#[test]
fn inequivalent_queues_are_refused_in_rabbitmqs_words_and_order() {
    let mut catalog = Catalog::new();
    let ttl = |ttl| canonical(TableWriter::new().signed_int("x-message-ttl", ttl));
    let original = with!(
        classic("q"),
        DeclareQueue {
            arguments: ttl(1000)
        }
    );
    catalog.done(&original);
    let head = "PRECONDITION_FAILED - inequivalent arg";
    let tail = "for queue 'q' in vhost '/': received";
    let cases = [
        (
            with!(
                original.clone(),
                DeclareQueue {
                    durable: true,
                    auto_delete: true
                }
            ),
            format!("{head} 'durable' {tail} 'true' but current is 'false'"),
        ),
        (
            with!(
                original.clone(),
                DeclareQueue {
                    auto_delete: true,
                    arguments: ttl(1)
                }
            ),
            format!("{head} 'auto_delete' {tail} 'true' but current is 'false'"),
        ),
        (
            with!(original.clone(), DeclareQueue { arguments: ttl(1) }),
            format!("{head} 'x-message-ttl' {tail} '1' but current is '1000'"),
        ),
        (
            classic("q"),
            format!(
                "{head} 'x-message-ttl' {tail} none but current is the value '1000' of type 'signedint'"
            ),
        ),
    ];
    for (request, text) in cases {
        assert_eq!(catalog.refused(&request), (406, text));
    }
    let long = canonical(
        TableWriter::new()
            .long("x-message-ttl", 1000)
            .long("mine", 1),
    );
    let widened = with!(original.clone(), DeclareQueue { arguments: long });
    catalog.done(&widened);
    let typed = TableWriter::new()
        .signed_int("x-message-ttl", 1000)
        .long_string("x-queue-type", "classic");
    catalog.done(&with!(
        original,
        DeclareQueue {
            arguments: canonical(typed)
        }
    ));
}

#[test]
fn an_exclusive_queue_is_locked_to_others_in_every_way_and_never_durable() {
    let mut catalog = Catalog::new();
    let own = with!(
        classic("q"),
        DeclareQueue {
            exclusive: true,
            durable: true
        }
    );
    let (id, name) = catalog.declared(&own);
    assert!(!catalog.topology.queue(id).expect("alive").durable);
    catalog.done(&with!(own.clone(), DeclareQueue { durable: false }));
    catalog.done(&bind_queue("amq.fanout", "q"));
    let others = [
        with!(own, DeclareQueue { session: user(2) }),
        classic("q"),
        with!(bind_queue("amq.topic", "q"), BindQueue { session: user(2) }),
        with!(
            unbind_queue("amq.fanout", "q"),
            UnbindQueue { session: user(2) }
        ),
    ];
    for request in others {
        assert_eq!(catalog.refused(&request).0, 405, "{request:?}");
    }
    let passive = |index| check_passive_queue(&catalog.topology, VHOST, &name, user(index));
    assert_eq!(passive(1), Ok(id));
    assert_eq!(passive(2).expect_err("locked").code().0, 405);
}

#[test]
fn a_shared_queue_is_not_declared_exclusive_later() {
    let mut catalog = Catalog::new();
    catalog.done(&classic("q"));
    let exclusive = with!(classic("q"), DeclareQueue { exclusive: true });
    assert_eq!(catalog.refused(&exclusive).0, 405);
}

#[test]
fn quorum_queues_must_be_named_durable_and_shared_and_must_stay() {
    let mut catalog = Catalog::new();
    let quorum = |name: &str| {
        let typed = canonical(TableWriter::new().long_string("x-queue-type", "quorum"));
        with!(
            classic(name),
            DeclareQueue {
                arguments: typed,
                durable: true
            }
        )
    };
    catalog.done(&quorum("q"));
    let cases = [
        (
            quorum(""),
            "PRECONDITION_FAILED - Cannot declare a server-named queue for type rabbit_quorum_queue",
        ),
        (
            with!(quorum("t"), DeclareQueue { durable: false }),
            "PRECONDITION_FAILED - invalid property 'non-durable' for queue 't' in vhost '/'",
        ),
        (
            with!(quorum("e"), DeclareQueue { exclusive: true }),
            "PRECONDITION_FAILED - invalid property 'exclusive-owner' for queue 'e' in vhost '/'",
        ),
        (
            with!(quorum("a"), DeclareQueue { auto_delete: true }),
            "PRECONDITION_FAILED - invalid property 'auto-delete' for queue 'a' in vhost '/'",
        ),
    ];
    for (request, text) in cases {
        assert_eq!(catalog.refused(&request), (406, text.to_owned()));
    }
}

#[test]
fn a_queue_without_a_type_is_of_the_default_one_and_refused_as_if_it_had_said_so() {
    let mut catalog = Catalog::new();
    catalog.done(&with!(classic("before"), DeclareQueue { durable: true }));
    catalog
        .topology
        .set_default_queue_type(Some(QueueType::Quorum));
    let typed = canonical(TableWriter::new().long_string("x-queue-type", "quorum"));
    let plain = with!(classic("q"), DeclareQueue { durable: true });
    let said = with!(
        plain.clone(),
        DeclareQueue {
            arguments: typed.clone()
        }
    );
    let (id, _) = catalog.declared(&plain);
    let arguments = &catalog.topology.queue(id).expect("alive").arguments;
    assert_eq!(arguments, &typed);
    catalog.done(&said);
    catalog.done(&plain);
    let priorities = canonical(TableWriter::new().long("x-max-priority", 5));
    let refused = [
        with!(classic("before"), DeclareQueue { durable: true }),
        with!(classic(""), DeclareQueue { durable: true }),
        with!(
            plain,
            DeclareQueue {
                name: Name::from("p"),
                arguments: priorities
            }
        ),
    ];
    for request in refused {
        assert_eq!(catalog.refused(&request).0, 406, "{request:?}");
    }
    catalog.done(&classic("passing"));
}

#[test]
fn exchanges_are_equal_by_kind_flags_and_alternate() {
    let mut catalog = Catalog::new();
    catalog.done(&exchange("x", "topic"));
    catalog.done(&exchange("x", "topic"));
    catalog.done(&with!(
        exchange("amq.topic", "topic"),
        DeclareExchange { durable: true }
    ));
    let alternate = canonical(TableWriter::new().long_string("alternate-exchange", "ae"));
    let head = "PRECONDITION_FAILED - inequivalent arg";
    let tail = "for exchange 'x' in vhost '/': received";
    let cases = [
        (
            exchange("x", "direct"),
            format!("{head} 'type' {tail} 'direct' but current is 'topic'"),
        ),
        (
            with!(exchange("x", "topic"), DeclareExchange { durable: true }),
            format!("{head} 'durable' {tail} 'true' but current is 'false'"),
        ),
        (
            with!(exchange("x", "topic"), DeclareExchange { internal: true }),
            format!("{head} 'internal' {tail} 'true' but current is 'false'"),
        ),
        (
            with!(
                exchange("x", "topic"),
                DeclareExchange {
                    arguments: alternate
                }
            ),
            format!(
                "{head} 'alternate-exchange' {tail} the value 'ae' of type 'longstr' but current is none"
            ),
        ),
    ];
    for (request, text) in cases {
        assert_eq!(catalog.refused(&request), (406, text));
    }
}

#[test]
fn system_exchanges_are_out_of_reach() {
    let mut catalog = Catalog::new();
    let default = "ACCESS_REFUSED - operation not permitted on the default exchange";
    let cases = [
        (
            exchange("amq.new", "direct"),
            403,
            "ACCESS_REFUSED - exchange name 'amq.new' contains reserved prefix 'amq.*'",
        ),
        (
            exchange("x", "odd"),
            503,
            "COMMAND_INVALID - unknown exchange type 'odd'",
        ),
        (exchange("\r\n", "direct"), 403, default),
        (delete_exchange(""), 403, default),
        (
            delete_exchange("amq.topic"),
            403,
            "ACCESS_REFUSED - deletion of system exchange 'amq.topic' in vhost '/' not allowed",
        ),
        (bind_queue("", "q"), 403, default),
        (unbind_queue("", "q"), 403, default),
        (bind_exchange("amq.topic", ""), 403, default),
    ];
    for (request, code, text) in cases {
        assert_eq!(
            catalog.refused(&request),
            (code, text.to_owned()),
            "{request:?}"
        );
    }
    let passive = |name: &str| check_passive_exchange(&catalog.topology, VHOST, &Name::from(name));
    assert!(passive("amq.fanout").is_ok());
    assert_eq!(passive("").expect_err("default").code().0, 403);
    assert_eq!(
        passive("none").expect_err("missing").to_string(),
        "no exchange 'none' in vhost '/'"
    );
}

#[test]
fn binding_what_is_missing_fails_and_unbinding_it_does_not() {
    let mut catalog = Catalog::new();
    let none = (
        404,
        "NOT_FOUND - no exchange 'none' in vhost '/'".to_owned(),
    );
    assert_eq!(catalog.refused(&bind_queue("none", "q")), none);
    assert_eq!(catalog.refused(&bind_exchange("amq.topic", "none")), none);
    let no_queue = catalog.refused(&bind_queue("amq.topic", "q"));
    assert_eq!(
        no_queue,
        (404, "NOT_FOUND - no queue 'q' in vhost '/'".to_owned())
    );
    for request in [
        unbind_queue("none", "q"),
        unbind_queue("amq.topic", "q"),
        delete_exchange("none"),
    ] {
        assert_eq!(catalog.ask(&request), Ok(done(Vec::new())));
    }
    catalog.done(&classic("q"));
    catalog.done(&bind_queue("amq.topic", "q"));
    let again = catalog.ask(&bind_queue("amq.topic", "q"));
    assert_eq!(again, Ok(done(Vec::new())), "bound is bound");
}

#[test]
fn x_match_is_checked_on_headers_exchanges_alone_and_before_exclusivity() {
    let mut catalog = Catalog::new();
    catalog.done(&with!(classic("q"), DeclareQueue { exclusive: true }));
    let odd = canonical(TableWriter::new().long_string("x-match", "odd"));
    let request = with!(
        bind_queue("amq.match", "q"),
        BindQueue {
            arguments: odd.clone(),
            session: user(2)
        }
    );
    assert_eq!(catalog.refused(&request).0, 406);
    catalog.done(&with!(
        bind_queue("amq.topic", "q"),
        BindQueue { arguments: odd }
    ));
}

#[test]
fn an_exchange_in_use_is_deleted_only_without_if_unused() {
    let mut catalog = Catalog::new();
    catalog.done(&exchange("x", "fanout"));
    catalog.done(&exchange("y", "fanout"));
    catalog.done(&bind_exchange("x", "y"));
    let if_unused = |name| with!(delete_exchange(name), DeleteExchange { if_unused: true });
    let in_use = (
        406,
        "PRECONDITION_FAILED - exchange 'x' in vhost '/' in use".to_owned(),
    );
    assert_eq!(catalog.refused(&if_unused("x")), in_use);
    catalog.done(&if_unused("y"));
    assert!(!catalog.has_exchange("y"));
    catalog.done(&if_unused("x"));
    assert!(
        !catalog.has_exchange("x"),
        "its only binding went with the destination"
    );
}

#[test]
fn auto_delete_exchanges_go_with_their_last_binding_and_take_others_along() {
    let mut catalog = Catalog::new();
    let (queue, _) = catalog.declared(&classic("q"));
    for name in ["a", "b", "c"] {
        catalog.done(&auto_delete(name));
    }
    catalog.done(&exchange("stays", "fanout"));
    for (source, destination) in [("a", "b"), ("b", "c"), ("stays", "a"), ("c", "a")] {
        catalog.done(&bind_exchange(source, destination));
    }
    catalog.done(&bind_queue("c", "q"));
    catalog.done(&Request::UnbindExchange {
        vhost: VHOST,
        destination: Name::from("a"),
        source: Name::from("c"),
        routing_key: Name::from("key"),
        arguments: Arguments::default(),
    });
    assert!(catalog.has_exchange("c"), "it has another binding");
    catalog.done(&Request::DeleteQueue {
        id: queue,
        unless_touched_since: None,
    });
    for name in ["a", "b", "c"] {
        assert!(!catalog.has_exchange(name), "{name} is gone");
    }
    assert!(catalog.has_exchange("stays"));
}

#[test]
fn an_auto_delete_exchange_bound_to_itself_can_be_deleted_once() {
    let mut catalog = Catalog::new();
    catalog.done(&auto_delete("x"));
    catalog.done(&bind_exchange("x", "x"));
    let decision = catalog.ask(&delete_exchange("x")).expect("granted");
    assert_eq!(decision.changes.len(), 1);
    assert!(!catalog.has_exchange("x"));
}

#[test]
fn one_seed_gives_one_sequence_of_names() {
    let (mut one, mut other) = (NameSource::new(5), NameSource::new(5));
    assert_eq!(one.next_queue_name(), other.next_queue_name());
    assert_ne!(one.next_queue_name(), NameSource::new(6).next_queue_name());
    let distinct: HashSet<_> = (0..1000).map(|_| one.next_queue_name()).collect();
    assert_eq!(distinct.len(), 1000);
}
