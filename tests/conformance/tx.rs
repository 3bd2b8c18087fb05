//! Transactions: publishes and acks that count from commit on, or never.

use crate::support::channel::Channel;
use crate::support::cores::on_each_core_count;
use crate::support::ids;
use amq_protocol::protocol::{basic, tx};

on_each_core_count! {
    fn publishes_are_seen_from_commit_on(broker: &Broker) {
        let connections = broker.connections_spread::<4>();
        let witness = connections[0].channel();
        let name = broker.name("tx");
        witness.queue(&name);
        for (before, connection) in connections.iter().enumerate() {
            let channel = select(connection.channel());
            channel.fill(&name, &["a", "b"]);
            channel.passive(&name);
            assert_eq!(witness.passive(&name).message_count as usize, 2 * before, "not before commit");
            commit(&channel);
            assert_eq!(witness.passive(&name).message_count as usize, 2 * before + 2);
        }
    }

    fn rolled_back_publishes_are_never_seen(broker: &Broker) {
        let channel = select(broker.connect().channel());
        let queue = channel.own_queue();
        channel.fill(&queue, &["a", "b"]);
        rollback(&channel);
        channel.publish("", &queue, "c");
        commit(&channel);
        assert_eq!(channel.drain(&queue), ["c"]);
    }

    fn acks_count_from_commit_on(broker: &Broker) {
        let connection = broker.connect();
        let channel = connection.channel();
        let queue = channel.own_queue();
        channel.fill(&queue, &["a", "b"]);
        let channel = select(channel);
        channel.consume(&queue);
        channel.delivered_texts(2);
        channel.ack(1);
        commit(&channel);
        channel.ack(2);
        channel.close();
        let next = connection.channel();
        assert_eq!(next.drain(&queue), ["b"], "its ack was not committed");
    }

    fn what_was_acknowledged_is_known_no_more_before_the_commit(broker: &Broker) {
        let connection = broker.connect();
        let channel = select(connection.channel());
        let queue = channel.own_queue();
        channel.fill(&queue, &["a", "b"]);
        commit(&channel);
        channel.consume(&queue);
        channel.delivered_texts(2);
        channel.ack(1);
        channel.call::<basic::RecoverOk>(basic::Recover { requeue: true });
        let again = channel.delivery();
        assert_eq!((again.text().as_str(), again.tag()), ("b", 3), "only what wasn't acknowledged comes again");
        channel.ack(1);
        channel.expect_close(406, "PRECONDITION_FAILED - unknown delivery tag 1", ids::BASIC_ACK);
        let mut left = connection.channel().drain(&queue);
        left.sort();
        assert_eq!(left, ["a", "b"], "nothing was committed");
    }

    fn rolled_back_acks_may_be_given_again(broker: &Broker) {
        let connection = broker.connect();
        let channel = select(connection.channel());
        let queue = channel.own_queue();
        channel.fill(&queue, &["a"]);
        commit(&channel);
        channel.consume(&queue);
        channel.delivery();
        channel.ack(1);
        rollback(&channel);
        channel.ack(1);
        commit(&channel);
        channel.close();
        assert_eq!(connection.channel().drain(&queue), [""; 0]);
    }

    fn a_requeue_waits_for_commit(broker: &Broker) {
        let channel = select(broker.connect().channel());
        let queue = channel.own_queue();
        channel.publish("", &queue, "a");
        commit(&channel);
        channel.consume(&queue);
        channel.delivery();
        channel.reject(1, true);
        channel.nothing_more_from(&queue);
        commit(&channel);
        assert!(channel.delivery().method.redelivered);
    }

    fn an_unroutable_mandatory_message_comes_back_at_commit(broker: &Broker) {
        let channel = select(broker.connect().channel());
        let queue = channel.own_queue();
        channel.publish_mandatory("", "no-such-queue-anywhere", "back");
        channel.nothing_more_from(&queue);
        channel.send(tx::Commit {});
        assert_eq!(channel.expect_message::<basic::Return>().text(), "back");
        channel.expect::<tx::CommitOk>();
    }

    fn a_closed_channel_is_a_rollback(broker: &Broker) {
        let connection = broker.connect();
        let channel = select(connection.channel());
        let queue = channel.own_queue();
        channel.publish("", &queue, "a");
        channel.close();
        assert_eq!(connection.channel().drain(&queue), [""; 0]);
    }

    fn a_channel_that_is_not_transactional_cannot_commit(broker: &Broker) {
        let connection = broker.connect();
        let text = "PRECONDITION_FAILED - channel is not transactional";
        let channel = connection.channel();
        channel.send(tx::Commit {});
        channel.expect_close(406, text, ids::TX_COMMIT);
        let channel = connection.channel();
        channel.send(tx::Rollback {});
        channel.expect_close(406, text, ids::TX_ROLLBACK);
    }

    fn selecting_twice_and_committing_nothing_is_fine(broker: &Broker) {
        let channel = select(select(broker.connect().channel()));
        commit(&channel);
        rollback(&channel);
        commit(&channel);
    }

    fn one_transaction_reaches_queues_on_several_cores(broker: &Broker) {
        let connections = broker.connections_spread::<6>();
        let owners = connections.each_ref().map(|connection| connection.channel());
        let exchange = broker.name("fanout");
        owners[0].exchange(&exchange, "fanout");
        let queues = owners.each_ref().map(|channel| {
            let queue = channel.own_queue();
            channel.bind(&queue, &exchange, "");
            queue
        });
        let channel = select(connections[0].channel());
        for text in ["a", "b", "c"] {
            channel.publish(&exchange, "", text);
        }
        commit(&channel);
        for (owner, queue) in owners.iter().zip(&queues) {
            assert_eq!(owner.drain(queue), ["a", "b", "c"]);
        }
    }
}

fn select(channel: Channel) -> Channel {
    channel.call::<tx::SelectOk>(tx::Select {});
    channel
}

fn commit(channel: &Channel) {
    channel.call::<tx::CommitOk>(tx::Commit {});
}

fn rollback(channel: &Channel) {
    channel.call::<tx::RollbackOk>(tx::Rollback {});
}
