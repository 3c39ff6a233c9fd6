// Package client follows a Weir collector's BucketService the way an exposer
// does: a snapshot, then every entry after it, then progress, over as many
// connections as it takes. It needs the contract and gRPC, nothing else.
//
//	conn, err := grpc.NewClient("dns:///collector:9820", grpc.WithConnectParams(…), …)
//	follower, err := client.New(conn, client.Options{
//		Snapshot: &bucketv1.SnapshotRequest{MaxAge: durationpb.New(24 * time.Hour)},
//	})
//	err = follower.Run(ctx, handler)
//
// Besides following there are [List] for history, which goes on after a cut
// connection, [Definitions] for rows with their labels, and [Coverage] for what is
// stored and what is missing.
//
// # What a handler may rely on
//
// A [Handler] sees one history. Calls come from the goroutine that called Run,
// one after another:
//
//	SnapshotBegin Entry… SnapshotEnd  ( Entry | Progress | Info )…  SnapshotBegin …
//
// Every matching entry of the log that is not in the snapshot is delivered once,
// in ascending order of revision, whatever happens to connections: the follower
// remembers the last entry that the handler accepted and resumes behind it. A
// handler therefore keeps no log of its own and filters no duplicates. Entries
// between SnapshotBegin and SnapshotEnd belong to a view that is not complete;
// the handler keeps showing the old view until SnapshotEnd. If the stream breaks
// in between, another SnapshotBegin follows and the unfinished view is dropped.
//
// # What is checked
//
// The follower does not trust the server to keep the contract. Revisions that do
// not ascend, or skip where nothing is filtered; a progress message behind an
// entry that was already sent, or ahead of one that was not; a snapshot with
// another number of buckets than announced; a bucket that comes twice; a resumed
// stream of another store: each ends the stream, is reported, and is answered
// with a fresh snapshot, because what was applied can no longer be trusted.
//
// # Errors and waiting
//
// What is done about each reason stands in one table, judge in judge.go, which
// follows the contract's list. A resume point that the server no longer has, or
// that is not of its history, is answered with a snapshot at once; everything
// else waits: exponential from Backoff.Min to Backoff.Max with jitter, or
// Backoff.Long where only a person can help (a refused credential, a malformed
// request), and never for less than a google.rpc.RetryInfo of the server asks
// for, up to Backoff.Max. The waiting time falls back to the minimum once a
// stream has brought something (an entry, progress, a whole snapshot) and has
// gone on for ten times that minimum. So collectors may restart as often as they
// like without making followers slow, and a server that accepts and drops is
// still not hammered.
//
// A snapshot with a lower revision than what was applied, of the same store, is
// accepted only after a server has said that the applied point is not of its
// history. Otherwise it is a server that lags: the follower asks with its own
// point whether that is so. Readers never go back in time by accident.
//
// # The connection
//
// It is the caller's, and gRPC has pauses of its own between attempts to connect:
// by default they grow to two minutes, and a stream that is opened during one
// fails at once. A follower would then find a collector that is back minutes
// late, whatever Backoff says. Shorter ones (backoff is
// google.golang.org/grpc/backoff):
//
//	grpc.WithConnectParams(grpc.ConnectParams{
//		Backoff:           backoff.Config{BaseDelay: 200 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 10 * time.Second},
//		MinConnectTimeout: 10 * time.Second,
//	})
//
// # Silence
//
// The server sends progress every few seconds. When nothing arrives for
// Options.Idle, the connection is taken for dead, whatever TCP says, and the
// stream is opened anew. Time spent inside the handler does not count.
package client
