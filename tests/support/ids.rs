//! Class and method ids, as a close names the method that failed.

/// (class id, method id)
pub(crate) type Ids = (u16, u16);

/// No method is to blame: a frame was.
pub(crate) const NONE: Ids = (0, 0);
pub(crate) const CONNECTION_START_OK: Ids = (10, 11);
pub(crate) const CONNECTION_TUNE_OK: Ids = (10, 31);
pub(crate) const CONNECTION_OPEN: Ids = (10, 40);
pub(crate) const CHANNEL_OPEN: Ids = (20, 10);
pub(crate) const CHANNEL_FLOW: Ids = (20, 20);
pub(crate) const EXCHANGE_DECLARE: Ids = (40, 10);
pub(crate) const EXCHANGE_DELETE: Ids = (40, 20);
pub(crate) const EXCHANGE_BIND: Ids = (40, 30);
pub(crate) const EXCHANGE_UNBIND: Ids = (40, 40);
pub(crate) const QUEUE_DECLARE: Ids = (50, 10);
pub(crate) const QUEUE_BIND: Ids = (50, 20);
pub(crate) const QUEUE_PURGE: Ids = (50, 30);
pub(crate) const QUEUE_DELETE: Ids = (50, 40);
pub(crate) const QUEUE_UNBIND: Ids = (50, 50);
pub(crate) const BASIC_QOS: Ids = (60, 10);
pub(crate) const BASIC_CONSUME: Ids = (60, 20);
pub(crate) const BASIC_PUBLISH: Ids = (60, 40);
pub(crate) const BASIC_DELIVER: Ids = (60, 60);
pub(crate) const BASIC_GET: Ids = (60, 70);
pub(crate) const BASIC_ACK: Ids = (60, 80);
pub(crate) const BASIC_REJECT: Ids = (60, 90);
pub(crate) const BASIC_RECOVER: Ids = (60, 110);
pub(crate) const BASIC_NACK: Ids = (60, 120);
pub(crate) const CONFIRM_SELECT: Ids = (85, 10);
pub(crate) const TX_SELECT: Ids = (90, 10);
pub(crate) const TX_COMMIT: Ids = (90, 20);
pub(crate) const TX_ROLLBACK: Ids = (90, 30);
