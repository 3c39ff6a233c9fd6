// Package client follows a Weir collector's BucketService the way an exposer does:
// a snapshot, then every entry after it and progress, across reconnects. It depends
// only on the API and gRPC.
//
//	conn, err := grpc.NewClient("dns:///collector:9820", grpc.WithConnectParams(…), …)
//	follower, err := client.New(conn, client.Options{
//		Snapshot: &bucketv1.SnapshotRequest{MaxAge: durationpb.New(24 * time.Hour)},
//	})
//	err = follower.Run(ctx, handler)
//
// Besides following there are [List] for history, which continues after an
// interrupted stream, [Definitions] for rows with their labels, and [Coverage] for
// what is stored and what is missing.
//
// # Guarantees to a handler
//
// A [Handler] sees one history. Calls come from the goroutine that called Run,
// one after another:
//
//	SnapshotBegin Entry… SnapshotEnd  ( Entry | Progress | Info )…  SnapshotBegin …
//
// Every matching entry of the log that is not in the snapshot is delivered once, in
// ascending order of revision, across reconnects: the follower records the last
// entry that the handler accepted and resumes after it. A handler therefore needs
// no log of its own and no check for duplicates. Entries between SnapshotBegin and
// SnapshotEnd belong to an incomplete view; the handler keeps the old view until
// SnapshotEnd. If the stream breaks in between, another SnapshotBegin follows and
// the incomplete view is dropped.
//
// # Validation
//
// The follower validates what the server sends. These are violations of the API:
// revisions that do not ascend, or that skip although nothing is filtered; progress
// behind an entry that was already sent, or ahead of one that was not; a snapshot
// whose number of buckets differs from the announced one; a duplicate bucket; a
// resumed stream of another store. A violation ends the stream, is reported, and
// leads to a new snapshot, because the applied view can no longer be trusted.
//
// # Errors and backoff
//
// One table, judge in judge.go, says what follows each error reason of the API. If
// the server no longer has the resume point, or the point is not of its history, the
// follower takes a snapshot at once. After all other errors it backs off:
// exponentially from Backoff.Min to Backoff.Max with jitter, or for Backoff.Long if
// only an operator can help (a rejected credential, a malformed request), and never
// for less than the server's google.rpc.RetryInfo, up to Backoff.Max. The backoff is
// reset once a stream has delivered something (an entry, progress, a whole snapshot)
// and has lasted for ten times the minimum. So restarts of collectors do not slow
// followers down, and a server that accepts and drops streams is not overloaded.
//
// A snapshot of the same store with a lower revision than the applied one is accepted
// only after a server has reported that the applied point is not of its history.
// Otherwise the server lags: the follower then resumes from its own point to find out.
// Readers never go back in time by accident.
//
// # The connection
//
// The caller owns the connection. gRPC has its own backoff between connection
// attempts: by default it grows to two minutes, and a stream that is opened during it
// fails at once. A follower would then notice a restarted collector minutes late,
// whatever Backoff says. Configure a shorter one (backoff is
// google.golang.org/grpc/backoff):
//
//	grpc.WithConnectParams(grpc.ConnectParams{
//		Backoff:           backoff.Config{BaseDelay: 200 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 10 * time.Second},
//		MinConnectTimeout: 10 * time.Second,
//	})
//
// # Idle streams
//
// The server sends progress every few seconds. When nothing arrives for
// Options.Idle, the follower considers the connection dead and opens a new stream.
// Time spent in the handler does not count.
package client
