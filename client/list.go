package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"slices"
	"time"

	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// ListOptions configure a [List]. Zero fields mean the default.
type ListOptions struct {
	// Backoff configures the pauses after an interruption; Long is not used.
	Backoff Backoff
	// Attempts is the number of consecutive attempts without a bucket before the
	// last error is returned. Default 8, which with the default pauses is more than
	// ten seconds: a restarting collector is back by then.
	Attempts int
	// Idle is how long a stream may be silent before it is considered dead.
	// Default 1 min: the server's database may take that to find the first bucket.
	Idle time.Duration
	// Token, if set, is told the page token of each entry right before it is yielded, for
	// a later list of the same request that continues after it.
	Token func(token string)
}

// List yields the entries of stored buckets of a range of windows, in ascending
// order of dataset, window start and scope, each once. After an interrupted stream it
// continues after the last bucket. It lists the windows that lie entirely inside
// [start, end); memory does not depend on their number.
//
// If the request asks for it, the newest restatement of a bucket is in the bucket's place.
// An entry whose content cannot be read has neither: skip it. Only the last pair
// can have an error. The error is that of ctx; a permanent error of the server, such
// as a malformed request ([Reason], google.golang.org/grpc/status); the last of
// Attempts transient errors; or wraps [ErrContract] if the server sends what was not
// requested.
//
// The request is not modified; its page token, if set, is where the list starts.
// Each iteration over the result lists again.
func List(ctx context.Context, conn grpc.ClientConnInterface, request *bucketv1.ListBucketsRequest, o ListOptions) iter.Seq2[*bucketv1.Entry, error] {
	defaulted(&o.Backoff.Min, defaultMin)
	defaulted(&o.Backoff.Max, max(defaultMax, o.Backoff.Min))
	defaulted(&o.Idle, time.Minute)
	if o.Attempts == 0 {
		o.Attempts = 8
	}
	return func(yield func(*bucketv1.Entry, error) bool) {
		l := &list{
			rpc: bucketv1.NewBucketServiceClient(conn), o: o,
			req:  proto.CloneOf(request),
			wait: pauses{Backoff: o.Backoff, rng: rand.New(rand.NewPCG(rand.Uint64(), 0))},
		}
		failed := 0
		for {
			err := l.stream(ctx, func(e *bucketv1.Entry) bool {
				failed = 0
				l.wait.reset()
				return yield(e, nil)
			})
			switch {
			case errors.Is(err, io.EOF), errors.Is(err, errEnough):
				return
			case ctx.Err() != nil:
				err = context.Cause(ctx)
			case transient(err):
				if failed++; failed < o.Attempts {
					sleep(ctx, max(l.wait.next(), l.wait.hinted(retryDelay(err))))
					continue
				}
			}
			yield(nil, fmt.Errorf("list buckets: %w", err))
			return
		}
	}
}

var errEnough = errors.New("the caller ended the iteration")

// list is the state of a List between streams.
type list struct {
	rpc  bucketv1.BucketServiceClient
	o    ListOptions
	req  *bucketv1.ListBucketsRequest // with the token to continue from
	last *bucketv1.Bucket             // the key of the last readable bucket
	wait pauses
}

// stream opens one stream and passes its entries to give. It always returns an
// error: io.EOF at the end of the list.
func (l *list) stream(parent context.Context, give func(*bucketv1.Entry) bool) error {
	ctx, cancel := context.WithCancelCause(parent)
	defer cancel(nil)
	watchdog := time.AfterFunc(l.o.Idle, func() { cancel(ErrIdle) })
	defer watchdog.Stop()
	ended := func(err error) error {
		if errors.Is(context.Cause(ctx), ErrIdle) {
			return fmt.Errorf("%w: nothing arrived for %s", ErrIdle, l.o.Idle)
		}
		return err
	}
	s, err := l.rpc.ListBuckets(ctx, l.req, grpc.MaxCallRecvMsgSize(maxMessage))
	if err != nil {
		return ended(err)
	}
	for {
		m, err := s.Recv()
		if err != nil {
			return ended(err)
		}
		watchdog.Stop()
		if err := l.check(m); err != nil {
			return err
		}
		l.req.PageToken = m.GetPageToken()
		if l.o.Token != nil {
			l.o.Token(m.GetPageToken())
		}
		if !give(m.GetEntry()) {
			return errEnough
		}
		watchdog.Reset(l.o.Idle)
	}
}

// check verifies the order, on which "each once" depends, and the range.
func (l *list) check(m *bucketv1.ListBucketsResponse) error {
	if m.GetEntry() == nil || m.GetPageToken() == "" {
		return violation("received a list message without an entry or without a page token")
	}
	b := m.GetEntry().GetBucket()
	if l.req.GetAsRestated() && b == nil {
		b = m.GetEntry().GetRestatement().GetBucket()
	}
	if b == nil {
		return nil // unreadable
	}
	datasets := l.req.GetFilter().GetDatasets()
	end := b.GetStartUnixSeconds() + int64(b.GetSizeSeconds())
	switch {
	case l.last != nil && compareKeys(l.last, b) >= 0:
		return violation("listed buckets must ascend: received %s after %s", keyString(b), keyString(l.last))
	case b.GetStartUnixSeconds() < l.req.GetStartUnixSeconds(), end > l.req.GetEndUnixSeconds(), len(datasets) > 0 && !slices.Contains(datasets, b.GetDataset()):
		return violation("received bucket %s, which was not requested", keyString(b))
	}
	l.last = &bucketv1.Bucket{Dataset: b.GetDataset(), Scope: b.GetScope(), StartUnixSeconds: b.GetStartUnixSeconds()}
	return nil
}

// transient reports whether an error may go away by itself.
func transient(err error) bool {
	if errors.Is(err, ErrIdle) {
		return true
	}
	switch status.Code(err) {
	case codes.Unavailable, codes.ResourceExhausted, codes.Aborted:
		return true
	}
	return false
}
