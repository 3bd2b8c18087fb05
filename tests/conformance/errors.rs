//! Errors: which of the two closes, with which code, text and ids, and what lives on.
//!
//! Errors that belong to one subject are tested in its chapter; here are those that remain, and what follows an error.

use crate::support::channel::{Channel, binding};
use crate::support::cores::on_each_core_count;
use crate::support::ids;
use amq_protocol::protocol::{AMQPClass, basic, channel, exchange, queue};

on_each_core_count! {
    fn a_channel_is_usable_again_after_its_error(broker: &Broker) {
        let connection = broker.connect();
        for _ in 0..3 {
            let channel = connection.open_channel(1);
            channel.send(basic::Get { queue: "never-declared".into(), no_ack: true });
            channel.expect_close(404, "NOT_FOUND - no queue 'never-declared' in vhost '/'", ids::BASIC_GET);
        }
        connection.open_channel(1).own_queue();
    }

    fn whoever_hears_of_an_error_finds_the_channel_let_go(broker: &Broker) {
        let [failing, witness] = broker.connections_spread();
        let witness = witness.channel();
        let mut closed = vec![];
        for _ in 0..20 {
            let (held, leaving) = (broker.name("held"), broker.name("leaving"));
            let channel = failing.channel();
            channel.queue(&held);
            channel.declare_queue(&leaving, |declare| declare.auto_delete = true);
            channel.consume(&leaving);
            channel.fill(&held, &["a"]);
            channel.get(&held);
            channel.send(basic::Get { queue: "never-declared".into(), no_ack: true });
            channel.expect_close(404, "NOT_FOUND - no queue 'never-declared'", ids::BASIC_GET);
            assert_eq!(witness.passive(&held).message_count, 1);
            closed.push(leaving);
        }
        for queue in closed {
            let asking = failing.channel();
            asking.send(queue::Declare { queue: queue.as_str().into(), passive: true, ..Default::default() });
            asking.expect_close(404, "NOT_FOUND - no queue", ids::QUEUE_DECLARE);
        }
    }

    fn whoever_hears_of_a_connections_error_finds_all_of_it_let_go(broker: &Broker) {
        let witness = broker.connect();
        for _ in 0..10 {
            let (leaving, exclusive) = (broker.name("leaving"), broker.name("exclusive"));
            let failing = broker.connect();
            let channel = failing.channel();
            channel.declare_queue(&leaving, |declare| declare.auto_delete = true);
            channel.declare_queue(&exclusive, |declare| declare.exclusive = true);
            channel.consume(&leaving);
            failing.channel().send(channel::Open {});
            failing.expect_close(504, "CHANNEL_ERROR - second 'channel.open' seen", ids::CHANNEL_OPEN);
            for queue in [leaving, exclusive] {
                let asking = witness.channel();
                asking.send(queue::Declare { queue: queue.as_str().into(), passive: true, ..Default::default() });
                asking.expect_close(404, "NOT_FOUND - no queue", ids::QUEUE_DECLARE);
            }
        }
    }

    fn a_connection_error_ends_every_channel(broker: &Broker) {
        let (failing, witness) = (broker.connect(), broker.connect());
        let name = broker.name("held");
        let holder = failing.channel();
        holder.queue(&name);
        holder.consume(&name);
        holder.fill(&name, &["a"]);
        holder.delivery();
        failing.channel().send(channel::Open {});
        failing.expect_close(504, "CHANNEL_ERROR - second 'channel.open' seen", ids::CHANNEL_OPEN);
        let channel = witness.channel();
        channel.consume(&name);
        assert!(channel.delivery().method.redelivered, "what the channel held went back");
    }

    fn the_ids_name_the_method_that_failed(broker: &Broker) {
        let connection = broker.connect();
        let own = connection.channel().own_queue();
        let fails = |send: &dyn Fn(&Channel), ids| {
            let channel = connection.channel();
            send(&channel);
            channel.expect_close(404, "NOT_FOUND - no ", ids);
        };
        let nothing = || "never-declared".into();
        fails(&|channel| channel.send(queue::Declare { queue: nothing(), passive: true, ..Default::default() }),
            ids::QUEUE_DECLARE);
        fails(&|channel| channel.send(binding("never-declared", "amq.direct", "")), ids::QUEUE_BIND);
        fails(&|channel| channel.send(queue::Purge { queue: nothing(), nowait: false }), ids::QUEUE_PURGE);
        fails(&|channel| channel.send(exchange::Declare { exchange: nothing(), passive: true, ..Default::default() }),
            ids::EXCHANGE_DECLARE);
        let bind = || exchange::Bind { destination: nothing(), source: "amq.fanout".into(), ..Default::default() };
        fails(&|channel| channel.send(bind()), ids::EXCHANGE_BIND);
        fails(&|channel| channel.send(basic::Consume { queue: nothing(), ..Default::default() }), ids::BASIC_CONSUME);
        fails(&|channel| channel.send(basic::Get { queue: nothing(), no_ack: false }), ids::BASIC_GET);
        fails(&|channel| channel.publish("never-declared", "", "x"), ids::BASIC_PUBLISH);
        fails(&|channel| channel.send(binding(&own, "never-declared", "")), ids::QUEUE_BIND);
    }

    fn errors_of_nowait_methods_are_told_too(broker: &Broker) {
        let connection = broker.connect();
        let channel = connection.channel();
        let mut bind = binding("never-declared", "amq.direct", "");
        bind.nowait = true;
        channel.send(bind);
        channel.expect_close(404, "NOT_FOUND - no queue 'never-declared' in vhost '/'", ids::QUEUE_BIND);
        let channel = connection.channel();
        channel.send(queue::Declare { queue: "amq.x".into(), nowait: true, ..Default::default() });
        channel.expect_close(403, "ACCESS_REFUSED - queue name 'amq.x' contains reserved prefix 'amq.*'",
            ids::QUEUE_DECLARE);
        let channel = connection.channel();
        channel.send(basic::Consume { queue: "never-declared".into(), nowait: true, ..Default::default() });
        channel.expect_close(404, "NOT_FOUND - no queue", ids::BASIC_CONSUME);
    }

    fn answers_given_before_an_error_arrive_before_it(broker: &Broker) {
        let connection = broker.connect();
        let channel = connection.channel();
        let name = broker.name("first");
        channel.send(queue::Declare { queue: name.as_str().into(), ..Default::default() });
        channel.publish("", &name, "kept");
        channel.send(basic::Get { queue: name.as_str().into(), no_ack: true });
        channel.send(basic::Ack { delivery_tag: 77, multiple: false });
        channel.answer::<queue::DeclareOk>();
        assert_eq!(channel.expect_message::<basic::GetOk>().text(), "kept");
        channel.expect_close(406, "PRECONDITION_FAILED - unknown delivery tag 77", ids::BASIC_ACK);
    }

    fn a_publish_that_fails_names_itself_even_after_others(broker: &Broker) {
        let connection = broker.connect();
        let channel = connection.channel();
        let queue = channel.own_queue();
        channel.confirm_select();
        channel.publish("", &queue, "fine");
        channel.publish("never-declared", "x", "fails");
        channel.publish("", &queue, "too late");
        let mut confirmed = 0;
        let close = loop {
            match channel.next("a confirm or the close").method {
                AMQPClass::Basic(basic::AMQPMethod::Ack(ack)) => confirmed = ack.delivery_tag,
                AMQPClass::Channel(channel::AMQPMethod::Close(close)) => break close,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!((close.reply_code, close.class_id, close.method_id), (404, 60, 40));
        assert!(confirmed <= 1, "{confirmed} was never accepted");
        channel.send(channel::CloseOk {});
        assert_eq!(connection.channel().drain(&queue), ["fine"]);
    }

    fn a_text_with_a_long_name_still_fits(broker: &Broker) {
        let channel = broker.connect().channel();
        let name = "n".repeat(255);
        channel.send(basic::Get { queue: name.as_str().into(), no_ack: true });
        channel.expect_close(404, "NOT_FOUND - no queue 'nnnnnnnnnn", ids::BASIC_GET);
    }
}
