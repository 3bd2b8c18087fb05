//! channel.flow: a client stops its deliveries for a while.

use crate::support::cores::on_each_core_count;
use crate::support::ids;
use amq_protocol::protocol::channel;

on_each_core_count! {
    fn flow_on_is_answered(broker: &Broker) {
        let channel = broker.connect().channel();
        assert!(channel.call::<channel::FlowOk>(channel::Flow { active: true }).active);
    }

    fn flow_off_stops_deliveries_until_it_is_on_again(broker: &Broker) {
        let connection = broker.connect();
        let channel = connection.channel();
        if broker.is_reference() {
            // RabbitMQ can't; the issue and the specification want it.
            channel.send(channel::Flow { active: false });
            return connection.expect_close(540, "NOT_IMPLEMENTED - active=false", ids::CHANNEL_FLOW);
        }
        let queue = channel.own_queue();
        channel.consume(&queue);
        assert!(!channel.call::<channel::FlowOk>(channel::Flow { active: false }).active);
        channel.fill(&queue, &["a", "b", "c"]);
        channel.nothing_more_from(&queue);
        assert!(channel.call::<channel::FlowOk>(channel::Flow { active: true }).active);
        assert_eq!(channel.delivered_texts(3), ["a", "b", "c"]);
    }

    fn flow_off_leaves_get_and_other_channels_alone(broker: &Broker) {
        if broker.is_reference() {
            return;
        }
        let connection = broker.connect();
        let (stopped, running) = (connection.channel(), connection.channel());
        let queue = stopped.own_queue();
        stopped.call::<channel::FlowOk>(channel::Flow { active: false });
        stopped.consume(&queue);
        stopped.publish("", &queue, "got");
        assert_eq!(stopped.get_no_ack(&queue).expect("it is ready").text(), "got");
        running.consume(&queue);
        stopped.publish("", &queue, "delivered");
        assert_eq!(running.delivery().text(), "delivered");
        stopped.nothing_more_from(&queue);
    }
}
