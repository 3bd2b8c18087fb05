//! amq-protocol's method structs under one trait, so that a test can say
//! `call::<queue::DeclareOk>(queue::Declare { .. })`.

use amq_protocol::protocol::{
    AMQPClass, access, basic, channel, confirm, connection, exchange, queue, tx,
};

/// One AMQP method, to and from the enumeration of all of them.
pub(crate) trait Method: Sized {
    const NAME: &'static str;
    fn into_class(self) -> AMQPClass;
    fn from_class(class: AMQPClass) -> Result<Self, AMQPClass>;
}

macro_rules! methods {
    ($($variant:ident $room:ident: $($name:ident)*;)*) => { $($(
        impl Method for $room::$name {
            const NAME: &'static str = concat!(stringify!($room), ".", stringify!($name));
            fn into_class(self) -> AMQPClass {
                AMQPClass::$variant($room::AMQPMethod::$name(self))
            }
            fn from_class(class: AMQPClass) -> Result<Self, AMQPClass> {
                match class {
                    AMQPClass::$variant($room::AMQPMethod::$name(method)) => Ok(method),
                    other => Err(other),
                }
            }
        }
    )*)* };
}

methods! {
    Connection connection: Start StartOk Secure SecureOk Tune TuneOk Open OpenOk Close CloseOk Blocked Unblocked
        UpdateSecret UpdateSecretOk;
    Channel channel: Open OpenOk Flow FlowOk Close CloseOk;
    Access access: Request RequestOk;
    Exchange exchange: Declare DeclareOk Delete DeleteOk Bind BindOk Unbind UnbindOk;
    Queue queue: Declare DeclareOk Bind BindOk Purge PurgeOk Delete DeleteOk Unbind UnbindOk;
    Basic basic: Qos QosOk Consume ConsumeOk Cancel CancelOk Publish Return Deliver Get GetOk GetEmpty Ack Reject
        RecoverAsync Recover RecoverOk Nack;
    Tx tx: Select SelectOk Commit CommitOk Rollback RollbackOk;
    Confirm confirm: Select SelectOk;
}
