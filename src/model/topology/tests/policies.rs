//! What policies make of exchanges and queues that are there, and of those that come.

use serde_json::{Value as Json, json};

use super::*;
use crate::model::administration::Policy;
use crate::model::policy::PolicyKind;

fn set_policy(kind: PolicyKind, name: &str, priority: i64, definition: Json) -> Change {
    let policy = Policy {
        vhost: Name::from("/"),
        name: Name::from(name),
        pattern: "^(x|q)".to_owned(),
        apply_to: "all".to_owned(),
        definition,
        priority,
    };
    Change::SetPolicy { kind, policy }
}

fn clear_policy(kind: PolicyKind, name: &str) -> Change {
    let (vhost, name) = (Name::from("/"), Name::from(name));
    Change::ClearPolicy { kind, vhost, name }
}

#[test]
fn a_policys_alternate_counts_at_once_and_until_it_is_cleared() {
    let mut topology = Topology::new(&[Name::from("/")], 1);
    let plain =
        |number, alternate| Step::DeclareExchange(number, ExchangeKind::Direct, false, alternate);
    // x1 leads to x0, and x2 was declared with an alternate of its own: x3.
    declare(
        &mut topology,
        &[
            Step::DeclareQueue(0),
            Step::DeclareQueue(1),
            plain(0, None),
            plain(1, None),
            plain(2, Some(3)),
            Step::DeclareExchange(3, ExchangeKind::Fanout, false, None),
            Step::Bind((1, false, 0, "a", 0)),
            Step::Bind((5, true, 0, "#", 0)),
            Step::Bind((3, true, 1, "", 0)),
        ],
    );
    let found = |topology: &Topology, exchange: &str| {
        let (mut scratch, mut targets) = (RouteScratch::new(), Vec::new());
        let id = topology
            .exchange_by_name(VHOST, exchange)
            .expect("declared");
        let properties = Properties::from_validated(&[0, 0]);
        topology.route(id, b"a", properties, &mut scratch, &mut targets);
        let name = |id: &QueueId| topology.queue(*id).expect("alive").name.to_string();
        (
            targets.iter().map(name).collect::<Vec<_>>(),
            topology.revision(id),
        )
    };
    let before = found(&topology, "x1");
    assert_eq!(before.0, Vec::<String>::new());
    topology.apply(&set_policy(
        PolicyKind::User,
        "p",
        1,
        json!({"alternate-exchange": "amq.topic"}),
    ));
    let after = found(&topology, "x1");
    assert_eq!(after.0, ["q0"], "x0's alternate, x0 being bound to x1");
    assert_ne!(after.1, before.1, "whoever leads to it has a new revision");
    assert_eq!(
        found(&topology, "x2").0,
        ["q1"],
        "the declaration comes before policies"
    );
    assert_eq!(
        found(&topology, "").0,
        Vec::<String>::new(),
        "nor is there one for this"
    );
    // What is bound to the alternate counts from now on, too.
    declare(&mut topology, &[Step::Bind((5, true, 1, "#", 0))]);
    assert_ne!(found(&topology, "x1").1, after.1);
    // An exchange that comes later has it from the start.
    declare(&mut topology, &[plain(4, None)]);
    assert_eq!(found(&topology, "x4").0.len(), 2);
    // A policy of higher priority without an alternate takes it away.
    topology.apply(&set_policy(
        PolicyKind::User,
        "higher",
        2,
        json!({"max-length": 1}),
    ));
    assert_eq!(found(&topology, "x4").0.len(), 0);
    topology.apply(&clear_policy(PolicyKind::User, "higher"));
    assert_eq!(found(&topology, "x4").0.len(), 2);
    let seen = found(&topology, "x1").1;
    topology.apply(&clear_policy(PolicyKind::User, "p"));
    assert_eq!(found(&topology, "x1").0, Vec::<String>::new());
    assert_ne!(found(&topology, "x1").1, seen);
    assert_eq!(topology.administration().policies().count(), 0);
}

#[test]
fn a_queues_arguments_are_those_of_its_declaration_and_its_policies() {
    let mut topology = Topology::new(&[Name::from("/")], 1);
    declare(&mut topology, &[Step::DeclareQueue(0)]);
    let id = topology.queue_by_name(VHOST, "q0").expect("declared");
    let length = |topology: &Topology| topology.queue_arguments(id).expect("alive").max_length;
    assert_eq!(length(&topology), None);
    topology.apply(&set_policy(
        PolicyKind::User,
        "p",
        0,
        json!({"max-length": 9}),
    ));
    assert_eq!(length(&topology), Some(9));
    topology.apply(&set_policy(
        PolicyKind::Operator,
        "o",
        0,
        json!({"max-length": 4}),
    ));
    assert_eq!(length(&topology), Some(4));
    let effective = topology.policies_of_queue(id).expect("alive");
    let (user, operator) = (effective.user_policy(), effective.operator_policy());
    assert_eq!(
        (user, operator),
        (Some(&Name::from("p")), Some(&Name::from("o")))
    );
    topology.apply(&clear_policy(PolicyKind::Operator, "o"));
    topology.apply(&clear_policy(PolicyKind::User, "never set"));
    assert_eq!(length(&topology), Some(9));
    let gone = topology
        .exchange_by_name(VHOST, "amq.topic")
        .expect("predeclared");
    let effective = topology.policies_of_exchange(gone).expect("alive");
    assert_eq!(effective.user_policy(), None, "the pattern is for others");
}

#[test]
fn no_policy_counts_for_the_queue_of_direct_replies() {
    let mut topology = Topology::new(&[Name::from("/")], 1);
    let request = Request::DeclareReplyQueue {
        vhost: VHOST,
        owner: CoreId(0),
    };
    let decision = decide(&topology, &request, &mut NameSource::new(1)).expect("granted");
    for change in &decision.changes {
        topology.apply(change);
    }
    let id = topology.queues(VHOST).next().expect("it is there");
    for kind in [PolicyKind::User, PolicyKind::Operator] {
        let Change::SetPolicy { kind, mut policy } =
            set_policy(kind, "all", 0, json!({"max-length": 0}))
        else {
            unreachable!("that is what it makes");
        };
        policy.pattern = ".*".to_owned();
        topology.apply(&Change::SetPolicy { kind, policy });
    }
    assert!(topology.policies_of_queue(id).is_none());
    assert_eq!(topology.queue_arguments(id), None);
}
