//! Every bound that a client or an operator can run into, or that two rooms share, with its unit and its reason.
//! Nothing grows without one; what tunes a single file stands there.

use std::time::Duration;

/// Largest frame we propose, in bytes, head and end octet included (RabbitMQ's default).
pub const FRAME_MAX: u32 = 131_072;
/// Smallest `frame_max` a client may ask for: AMQP 0-9-1 says 4096 (FRAME-MIN-SIZE), and so do the
/// clients of RabbitMQ before 4.1.
pub const FRAME_MIN: u32 = 4096;
/// Head and end octet of a frame: not counted by many clients when they keep to `frame_max`, so a
/// frame may be longer by this much, as with RabbitMQ.
pub const FRAME_OVERHEAD: usize = 8;
/// Channels a connection may have open (RabbitMQ's default).
pub const CHANNEL_MAX: u16 = 2047;
/// Heartbeat interval we propose (RabbitMQ's default).
pub const HEARTBEAT: Duration = Duration::from_secs(60);
/// From accept to `connection.open-ok`, whatever the client does in between (RabbitMQ's default).
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long we wait for `close-ok` before the socket is closed anyway (RabbitMQ's closing timeout is
/// 30 s; a shutdown must end within 5 s).
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(3);
/// Largest body, in bytes (RabbitMQ 4's `max_message_size`).
pub const MESSAGE_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Bodies from this size up are received into buffers of their own and shared; smaller ones are
/// copied. Measured, all shared against all copied: 1.05 (1.00 to 1.21) times the messages a second at 2 KiB and
/// 0.98 (0.91 to 1.29) at 4, which is no difference; 1.19 (1.11 to 1.31) at 8, 1.33 (1.26 to 1.35) at 32.
pub const LARGE_BODY_BYTES: usize = 8 * 1024;
/// Bytes that one core reads from a socket at once: large enough that the system call doesn't
/// count, small enough that one socket can't hold up the turn.
pub const LANDING_BYTES: usize = 256 * 1024;
/// Depth of tables and arrays within a table: deeper ones have no use and cost a stack.
pub const TABLE_DEPTH_MAX: usize = 32;
/// Bytes of frames that wait behind a channel's open question before the session stops reading:
/// one largest frame and what was in the buffer with it.
pub const DEFERRED_BYTES_MAX: usize = 512 * 1024;
/// Deliveries that one shard may have on their way to one session, at first: bounds the output of a
/// session whose socket is stuck.
pub const WINDOW_MESSAGES_MIN: u32 = 1024;
/// The same in bytes (one message may exceed it).
pub const WINDOW_BYTES_MIN: u32 = 256 * 1024;
/// How often the window of a session may double that exhausts it and gives all of it back: to 16,384
/// messages and 4 MiB, what a fast consumer takes while two cores wait for their CPU in turn.
pub const WINDOW_DOUBLINGS_MAX: u32 = 4;
/// Bytes by which one shard widens windows, of all sessions: a few fast consumers get all that helps them,
/// and thousands of them don't fill the memory with output that waits for their sockets.
pub const WINDOWS_WIDENED_MAX: i64 = 64 * 1024 * 1024;
/// Bytes of output below which a session gives back the window of what it was sent.
pub const OUTPUT_LOW_BYTES: usize = 512 * 1024;
/// Bytes of output at which a session stops reading: its client sends requests and takes no answers.
pub const OUTPUT_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Bytes in an outbox at which the sessions that feed that peer are not read. What waits here and in
/// the ring is what credit and acknowledgements wait behind, so it is a few milliseconds' work at most.
pub const OUTBOX_BYTES_MAX: usize = 512 * 1024;
/// Memory that an emptied batch keeps for its next turn, in bytes: the largest window's worth.
pub const BATCH_KEPT_BYTES: usize = 4 * 1024 * 1024;
/// Batches in a ring between two cores. A batch holds all that one turn sends; when they don't get
/// through, turns gather in the outbox and make larger ones.
pub const RING_BATCHES: usize = 8;
/// Consumers that one channel may have.
pub const CONSUMERS_PER_CHANNEL_MAX: usize = 10_000;
/// Longest time that consumers can be given to acknowledge in, in milliseconds: ten years, as for whatever
/// expires. More is as good as for ever.
pub const CONSUMER_TIMEOUT_MS_MAX: u64 = 315_360_000_000;
/// Notes that a channel keeps of when it was delivered what, for each timeout of its consumers: as many
/// parts of the timeout are the most by which it is late, a second for half an hour.
pub const CONSUMER_TIMEOUT_NOTES_MAX: u32 = 2048;
/// Different times that the consumers of one channel may ask for themselves: each has its notes, 32 KiB at most.
pub const OWN_CONSUMER_TIMEOUTS_MAX: usize = 64;
/// Messages that a session exchanges with queues before it is asked whose they are: a move costs about as much
/// as some hundred messages that cross, and few connections send as many by accident.
pub const MOVE_MESSAGES_MIN: u32 = 4096;
/// Each move, or attempt at one, doubles that for the session so often: one whose queues change all the time
/// moves once in four million messages.
pub const MOVE_DOUBLINGS_MAX: u32 = 10;
/// How long a session that is to move isn't read for what it has under way: a commit takes some milliseconds. One
/// that waits for longer stays where it is.
pub const MOVE_STOP_MAX: Duration = Duration::from_millis(100);
/// For so long it is counted what a core has to do, and for as long remembered: long beside a turn, short beside
/// what a client calls a moment.
pub const LOAD_INTERVAL: Duration = Duration::from_millis(100);
/// Messages taken in or given out in such a time by a core that surely has room: a tenth of what one can do.
pub const LOAD_FREE: u64 = 200_000;
/// Queues by which another core must still be behind its declarer's when it has got a new one: two that are
/// used together aren't torn apart.
pub const QUEUES_APART: usize = 1;
/// Consumers of a session that moves: their queues learn of it in one turn.
pub const MOVE_CONSUMERS_MAX: usize = 1000;
/// Sessions that have left one core for another and lie in their ring; more wait at the core they leave.
pub const RING_TRAVELLERS: usize = 8;
/// Bytes of publishes and acks that a transaction may hold before it is refused.
pub const TRANSACTION_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Steps of a job whose size grows with a queue (purge, requeue) that one turn takes.
pub const JOB_STEPS_PER_TURN: usize = 10_000;
/// Queues that take other limits in one turn after policies have changed: matching names and reading
/// arguments takes some microseconds for each.
pub const REVIEWS_PER_TURN: usize = 500;
/// Sessions that learn in one turn what changed policies let their consumers do.
pub const SESSION_REVIEWS_PER_TURN: usize = 500;
/// Hops a message makes from exchange to exchange. Each exchange is visited once, so a cycle ends by
/// itself; this bounds the work of one publish.
pub const EXCHANGE_HOPS_MAX: usize = 1000;
/// Weight of a binding to a consistent hash exchange: any that fits a number costs the same here, and
/// RabbitMQ would keep a record for each unit of it.
pub const BINDING_WEIGHT_MAX: u32 = u32::MAX;
/// Bytes of contents that a connection may have begun and not completed, over all its channels: some
/// of the largest messages, and not 2047 of them. One message may be larger if `max_message_size` says so.
pub const CONTENT_BYTES_MAX: usize = 128 * 1024 * 1024;
/// Messages that a recent history exchange keeps at most: each new binding gets copies of all of them in
/// one step.
pub const HISTORY_LENGTH_MAX: u32 = 10_000;
/// Bytes of them at most: they are in memory.
pub const HISTORY_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Keys of messages that a queue or an exchange remembers to know duplicates by, at most; it forgets the
/// oldest. Each takes some hundred bytes of memory, and nobody asks for more than a round million.
pub const DEDUPLICATION_KEYS_MAX: usize = 1 << 20;
/// Cores: a channel keeps a bit for each.
pub const CORES_MAX: u16 = 64;
/// Lines that one core writes to the log in one turn: a flood of errors must not become one of writes.
pub const NOTICES_PER_TURN: usize = 16;
/// Smallest file of a log, in bytes: what a broker with little durable traffic writes at first.
pub const SEGMENT_BYTES_MIN: u64 = 1024 * 1024;
/// Usual file of a log, in bytes, once it has grown: large enough that beginning one is rare, small
/// enough that giving one up gives back space soon. A larger message gets a larger file.
pub const SEGMENT_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Free files that a log has ready once it is in use: one for the next segment, and one in reserve, so
/// that acknowledgements and deletions can be written when the disk is full.
pub const FREE_FILES_MIN: usize = 2;
/// Free files that a log keeps for its next segments: a steady load uses the same ones for ever.
pub const FREE_FILES_MAX: usize = 3;
/// Dead bytes that a log may hold beyond as many as are alive, before the survivors of its oldest
/// segment are written again.
pub const LOG_GARBAGE_BYTES: u64 = 256 * 1024 * 1024;
/// Bytes of records in a batch, unless one record is longer: a write of 1 MiB takes under a
/// millisecond, and more at once isn't faster.
pub const BATCH_BYTES_MAX: usize = 1024 * 1024;
/// Bytes read at once to bring messages back that only the log holds.
pub const PAGE_IN_BYTES: u64 = 512 * 1024;
/// Bytes of the oldest segment read at once to write its survivors again.
pub const REWRITE_BYTES: u64 = 1024 * 1024;
/// Bytes of messages that wait for a batch at which their publishers are held back: what the disk
/// writes in some ten milliseconds.
pub const JOURNAL_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Bytes of messages that one core keeps in memory, be they ready or out with consumers; what comes beyond
/// stays in its log only, until it is its turn. The same for one queue or for many.
pub const RESIDENT_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Bytes that the definition log may hold beyond four times what is alive, before everything alive is
/// written again as one batch.
pub const DEFINITION_LOG_BYTES: u64 = 4 * 1024 * 1024;
/// Memory of the process above which publishers are blocked, as a fraction of RAM (RabbitMQ's default).
pub const MEMORY_WATERMARK: f64 = 0.6;
/// Free bytes on the data directory's disk below which publishers are blocked (RabbitMQ's default).
pub const DISK_FREE_MIN_BYTES: u64 = 50_000_000;
/// By how much the wall's clock may differ from what we take it for, in milliseconds: reading both isn't
/// one step, and each correction has every queue looked at.
pub const WALL_CLOCK_SLACK_MS: u64 = 5;
/// How often memory and disk are measured, so an alarm changes no more often: a flood takes in a few
/// GB meanwhile at worst, and an idle broker doesn't notice.
pub const MEASURE_INTERVAL: Duration = Duration::from_secs(1);
/// How often it is looked whether the clients of blocked connections are still there: an alarm may last
/// for hours, and each look costs a system call for each of them.
pub const BLOCKED_LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// How soon a full disk is tried again: whoever makes room there does so by hand or once a minute.
pub const DISK_RETRY: Duration = Duration::from_secs(1);
/// How soon what the disk failed to read is read again, before it is given up: what passes at all has mostly passed by
/// then.
pub const READ_RETRY: Duration = Duration::from_secs(1);
/// How often a piece of the log is read that messages are waited for in, before they are left out. Each time takes
/// [`READ_RETRY`], and whoever waits for one that is gone for good waits for all of them.
pub const READ_TRIES: usize = 3;
/// Memory that one pattern of a permission may be compiled into, in bytes: patterns of a line take some
/// hundred, and counted repetitions of counted repetitions are a slip.
pub const PATTERN_BYTES_MAX: usize = 1024 * 1024;
/// Cost of a password's bcrypt hash, the power of 2 of its rounds: at 14 a login takes about a second of a CPU.
pub const BCRYPT_COST_MAX: u32 = 14;
/// Logins of one core that wait for a check of such a password; more are refused. By then the first have
/// waited for as long as a handshake may last.
pub const PASSWORD_CHECKS_MAX: usize = 100;
/// How often a message may come back to a queue of type quorum (RabbitMQ 4's default).
pub const DELIVERY_LIMIT: u64 = 20;
/// Entries of a dead letter's header `x-death`, one for each queue and reason: the oldest go.
pub const DEATHS_MAX: usize = 256;
/// Dead letters of one core that wait to be sent or to be confirmed by their queues, at which the queues
/// stop giving more away: what a disk writes in a few milliseconds.
pub const DEAD_LETTERS_MAX: usize = 4096;
/// How soon a dead letter is tried again that not all queues have taken, where it stays until they have (RabbitMQ's
/// `dead_letter_worker_publisher_confirm_timeout`): somebody has to make room, or declare an exchange.
pub const LETTER_RETRY: Duration = Duration::from_secs(180);
/// So many milliseconds before it is due a delayed message leaves its queue, to be read from the log if only that has
/// it: time for a disk to read a gigabyte.
pub const DELAYS_AHEAD_MS: u64 = 2000;
/// The most of them for one core: two seconds' of 16,000 a second.
pub const DELAYS_AHEAD_MAX: usize = 32 * 1024;
/// Bytes of those of them that are in memory, beyond which no more come.
pub const DELAYS_AHEAD_BYTES: usize = 16 * 1024 * 1024;
