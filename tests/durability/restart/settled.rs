//! What was settled doesn't come back: acknowledged, rejected, purged, deleted.

use crate::lives::{after_each_end, durable_queue, keep, queue_is_there};
use crate::support::wire;
use amq_protocol::protocol::{basic, queue, tx};

after_each_end! {
    fn acknowledged_messages_do_not_come_back(lives: &mut Lives) {
        let connection = lives.connect();
        let channel = connection.channel();
        durable_queue(&channel, "queue");
        keep(&connection, "", "queue", &["a", "b", "c", "d", "e", "f", "g"]);
        let tag = channel.consume("queue");
        channel.delivered_texts(7);
        channel.cancel(&tag);
        channel.ack_up_to(2);
        channel.ack(6);
        channel.ack(4);
        lives.sure(&connection, "queue");
        lives.restart();

        assert_eq!(lives.texts("queue"), ["c", "e", "g"]);
        lives.restart();
        // What was got here counts as acknowledged, but no confirm followed: only a stop is sure to keep that.
        if !lives.are_killed() {
            assert_eq!(lives.texts("queue"), [""; 0]);
        }
    }

    fn messages_settled_without_an_ack_do_not_come_back(lives: &mut Lives) {
        let connection = lives.connect();
        let channel = connection.channel();
        durable_queue(&channel, "queue");
        keep(&connection, "", "queue", &["got", "rejected", "nacked", "nacked too", "consumed", "stays"]);
        assert_eq!(channel.get_no_ack("queue").expect("six are there").text(), "got");
        let tags: Vec<_> = (0..3).map(|_| channel.get("queue").expect("five are there").method.delivery_tag).collect();
        channel.reject(tags[0], false);
        channel.nack(tags[2], true, false);
        let stays = channel.get("queue").and_then(|_| channel.get("queue")).expect("two are there");
        assert_eq!(stays.text(), "stays");
        // The one before it goes back, to be taken by a consumer that doesn't acknowledge.
        channel.reject(stays.method.delivery_tag - 1, true);
        let tag = channel.consume_no_ack("queue");
        assert_eq!(channel.delivery().text(), "consumed");
        channel.cancel(&tag);
        lives.sure(&connection, "queue");
        lives.restart();

        assert_eq!(lives.texts("queue"), ["stays"]);
    }

    fn acks_of_an_earlier_lifes_messages_count(lives: &mut Lives) {
        let connection = lives.connect();
        durable_queue(&connection.channel(), "queue");
        keep(&connection, "", "queue", &["a", "b", "c"]);
        lives.restart();

        let connection = lives.connect();
        let channel = connection.channel();
        let tags: Vec<_> = (0..3).map(|_| channel.get("queue").expect("three are there").method.delivery_tag).collect();
        channel.ack(tags[1]);
        lives.sure(&connection, "queue");
        lives.restart();

        assert_eq!(lives.flagged_texts("queue"), [("a".to_owned(), true), ("c".to_owned(), true)]);
    }

    fn purged_messages_do_not_come_back(lives: &mut Lives) {
        let connection = lives.connect();
        let channel = connection.channel();
        durable_queue(&channel, "queue");
        keep(&connection, "", "queue", &["out", "b", "c"]);
        // Purge takes what is ready, and not what is out.
        let out = channel.get("queue").expect("three are there");
        let purged = channel.call::<queue::PurgeOk>(queue::Purge { queue: "queue".into(), nowait: false });
        assert_eq!((out.text().as_str(), purged.message_count), ("out", 2));
        keep(&connection, "", "queue", &["later"]);
        lives.sure(&connection, "queue");
        lives.restart();

        assert_eq!(lives.texts("queue"), ["out", "later"]);
    }

    fn a_large_purge_outlasts_the_process(lives: &mut Lives) {
        let connection = lives.connect();
        let channel = connection.channel();
        durable_queue(&channel, "queue");
        let texts: Vec<String> = (0..30_000).map(|number| number.to_string()).collect();
        keep(&connection, "", "queue", &texts.iter().map(String::as_str).collect::<Vec<_>>());
        let purged = channel.call::<queue::PurgeOk>(queue::Purge { queue: "queue".into(), nowait: false });
        assert_eq!(purged.message_count, 30_000);
        lives.sure(&connection, "queue");
        lives.restart();

        assert_eq!(lives.texts("queue"), [""; 0]);
    }

    fn a_queue_deleted_with_its_messages_is_gone(lives: &mut Lives) {
        let connection = lives.connect();
        let channel = connection.channel();
        durable_queue(&channel, "queue");
        durable_queue(&channel, "other");
        for name in ["queue", "other"] {
            channel.bind(name, "amq.fanout", "");
        }
        keep(&connection, "amq.fanout", "", &["a", "b"]);
        assert_eq!(channel.delete_queue("queue"), 2);
        lives.restart();

        assert!(!queue_is_there(&lives.connect(), "queue"));
        assert_eq!(lives.texts("other"), ["a", "b"]);
        // A queue of its name declared now is another.
        durable_queue(&lives.connect().channel(), "queue");
        assert_eq!(lives.texts("queue"), [""; 0]);
        lives.restart();
        assert_eq!(lives.texts("queue"), [""; 0]);
    }

    fn a_queue_declared_anew_holds_its_own_messages_alone(lives: &mut Lives) {
        let connection = lives.connect();
        let channel = connection.channel();
        for round in 0..5 {
            durable_queue(&channel, "queue");
            keep(&connection, "", "queue", &[&format!("{round} a"), &format!("{round} b")]);
            if round < 4 {
                channel.delete_queue("queue");
            }
        }
        lives.restart();

        assert_eq!(lives.texts("queue"), ["4 a", "4 b"]);
    }

    fn an_ack_of_a_deleted_queues_message_hurts_nobody(lives: &mut Lives) {
        let connection = lives.connect();
        let channel = connection.channel();
        durable_queue(&channel, "queue");
        keep(&connection, "", "queue", &["old"]);
        let old = channel.get("queue").expect("it was published");
        channel.delete_queue("queue");
        durable_queue(&channel, "queue");
        keep(&connection, "", "queue", &["new"]);
        channel.ack(old.method.delivery_tag);
        lives.sure(&connection, "queue");
        lives.restart();

        assert_eq!(lives.texts("queue"), ["new"]);
    }

    fn committed_acks_count_and_rolled_back_ones_do_not(lives: &mut Lives) {
        let connection = lives.connect();
        let channel = connection.channel();
        durable_queue(&channel, "queue");
        keep(&connection, "", "queue", &["a", "b", "c"]);
        channel.call::<tx::SelectOk>(tx::Select {});
        let tags: Vec<_> = (0..3).map(|_| channel.get("queue").expect("three are there").method.delivery_tag).collect();
        channel.ack(tags[0]);
        channel.publish_content("", "queue", wire::PERSISTENT, b"d");
        channel.call::<tx::CommitOk>(tx::Commit {});
        channel.ack(tags[1]);
        channel.call::<tx::RollbackOk>(tx::Rollback {});
        channel.ack(tags[2]);
        lives.sure(&connection, "queue");
        lives.restart();

        assert_eq!(lives.texts("queue"), ["b", "c", "d"]);
    }

    fn one_forgotten_message_outlasts_many_settled_ones(lives: &mut Lives) {
        let connection = lives.connect();
        let channel = connection.channel();
        durable_queue(&channel, "queue");
        keep(&connection, "", "queue", &["forgotten"]);
        let forgotten = channel.get("queue").expect("it was published");
        let body = vec![7; 1 << 20];
        let publisher = connection.channel();
        publisher.confirm_select();
        let tag = channel.consume("queue");
        for number in 1..=100 {
            publisher.publish_content("", "queue", wire::PERSISTENT, &body);
            publisher.confirmed(number..=number);
            channel.ack(channel.delivery().tag());
        }
        channel.cancel(&tag);
        assert_eq!(forgotten.text(), "forgotten");
        lives.sure(&connection, "queue");
        lives.restart();

        assert_eq!(lives.flagged_texts("queue"), [("forgotten".to_owned(), true)]);
    }

    fn half_of_many_settled_in_any_order_leaves_the_other_half(lives: &mut Lives) {
        let connection = lives.connect();
        let channel = connection.channel();
        durable_queue(&channel, "queue");
        let texts: Vec<String> = (0..5_000).map(|number| number.to_string()).collect();
        keep(&connection, "", "queue", &texts.iter().map(String::as_str).collect::<Vec<_>>());
        let tag = channel.consume("queue");
        channel.delivered_texts(5_000);
        channel.cancel(&tag);
        // 2,531 and 5,000 have no common divisor: every number comes once, in no order.
        let shuffled = (0..5_000_u64).map(|number| number * 2_531 % 5_000);
        for number in shuffled.filter(|number| number % 2 == 0) {
            channel.send(basic::Ack { delivery_tag: number + 1, multiple: false });
        }
        lives.sure(&connection, "queue");
        lives.restart();

        let expected: Vec<String> = (1..5_000).step_by(2).map(|number| number.to_string()).collect();
        let texts = lives.texts("queue");
        assert!(texts == expected, "{} came, from {:?} to {:?}", texts.len(), texts.first(), texts.last());
    }
}
