// Package feed turns the store's log into any number of streams.
//
// One goroutine, [Feed.Run], reads the log as it grows and encodes each entry
// once, as the bytes of a whole stream message. The newest entries stay in a
// ring that all streams share; a stream is a [Cursor], a position and a filter,
// and holds no queue of its own. A hundred streams cost a hundred positions.
//
// # Where a cursor reads
//
// A cursor inside the ring reads the ring. A cursor below it, which resumed from
// an old point, reads pages from the store and checks each entry's chain, until
// it has caught up. From then on it is live, and a live cursor never reads the
// store again: if the ring moves past it, it gets [ErrSlowReader] and its client
// comes back, after a pause, with a resume point. So the size of the ring is the
// lag limit, a slow reader costs the database nothing that it did not ask for,
// and one number (Config.Entries, Config.Bytes) bounds the memory of all streams.
//
// # Progress
//
// A progress message says: everything that matches up to this point was sent,
// and the leader lived at this time, having committed nothing before it that is
// not sent. The time comes from the same read
// of the log row as the head that it belongs to; entries are published first,
// in the same critical section in which the time is replaced, and a cursor hands
// out the time only with the head of that section. A time therefore never
// precedes its data (G4), whichever process appends. A cursor that is still
// catching up reports its point without a time.
//
// # When the history changes
//
// A store can be restored from a backup, or fail over to a replica that lacked
// the last commits, while processes follow it. The feed notices in three ways: the
// head is lower than what it has published, the same revision has another chain,
// or the next entry's chain does not follow from the last published one, which
// the feed computes for each entry it reads. It then begins again at the new head
// and ends every stream with [ErrHistoryChanged].
//
// # When the store is away
//
// Streams stay open through a short outage. After Config.Away they end with
// store.ErrUnavailable, since another collector may reach the database when
// this one does not.
//
// The feed never writes and does not know who leads: it is the same on leader
// and standby.
package feed
