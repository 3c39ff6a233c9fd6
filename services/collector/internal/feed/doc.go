// Package feed serves the store's log to any number of streams.
//
// One goroutine, [Feed.Run], reads the log as it grows and encodes each entry once,
// as the bytes of a complete stream message. The newest entries stay in a ring buffer
// that all streams share. A stream is a [Cursor]: a position and a filter, without a
// queue of its own.
//
// # Where a cursor reads
//
// A cursor inside the ring reads the ring. A cursor below it, which resumed from an
// old point, reads pages from the store and checks each entry's chain until it has
// caught up. From then on it is live, and a live cursor never reads the store again:
// if the ring moves past it, it gets [ErrSlowReader], and its client resumes after a
// pause. So the size of the ring is the lag limit, a slow reader puts no load on the
// database, and Config.Entries and Config.Bytes bound the memory of all streams.
//
// # Progress
//
// A progress message means that every matching entry up to this point was sent, and
// that at this time the leader was alive and had committed nothing else. The time
// comes from the same read of the log row as the head that it belongs to. Entries are
// published in the same critical section in which the time is replaced, and a cursor
// reports the time only with the head of that section. A time therefore never precedes
// its data (G4), whichever process appends. A cursor that is still catching up reports
// its point without a time.
//
// # When the history changes
//
// A store can be restored from a backup, or fail over to a replica that lacks the last
// commits, while processes follow it. The feed detects it in three ways: the head is
// lower than what it has published, the same revision has another chain, or the chain
// of the next entry, which the feed computes, does not follow from the last published
// one. It then starts again at the new head and ends every stream with
// [ErrHistoryChanged].
//
// # When the store is unavailable
//
// Streams stay open through a short outage. After Config.Away they end with
// store.ErrUnavailable, since another collector may reach the database when this one
// cannot.
//
// The feed never writes and does not depend on who leads: it is the same on leader and
// standby.
package feed
