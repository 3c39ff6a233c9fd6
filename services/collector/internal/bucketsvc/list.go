package bucketsvc

import (
	"context"
	"fmt"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/wire"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"github.com/weir-metrics/weir/services/collector/internal/rawcodec"
	"github.com/weir-metrics/weir/services/collector/internal/store"
	"github.com/weir-metrics/weir/services/collector/internal/unreadable"
	"google.golang.org/grpc"
)

// ListBuckets implements bucketv1.BucketServiceServer.
func (s *Server) ListBuckets(req *bucketv1.ListBucketsRequest, ss grpc.ServerStreamingServer[bucketv1.ListBucketsResponse]) error {
	return s.stream(ss, "ListBuckets", func(ctx context.Context, out *outlet) error {
		return s.list(ctx, req, out.send)
	})
}

func (s *Server) list(ctx context.Context, req *bucketv1.ListBucketsRequest, send sender) error {
	filter, err := parseFilter(req.GetFilter())
	if err != nil {
		return err
	}
	window, err := parseWindow(req.GetStartUnixSeconds(), req.GetEndUnixSeconds())
	if err != nil {
		return err
	}
	families, err := parseFamilies(req.GetFamilies())
	if err != nil {
		return err
	}
	tokens := newTokens(filter, window, families, req.GetAsRestated())
	after, err := tokens.decode(req.GetPageToken())
	if err != nil {
		return err
	}
	if err := s.acquire(ctx, s.lists, errManyLists); err != nil {
		return err
	}
	defer s.lists.Release()
	of, keep, err := s.stored(ctx, filter)
	if err != nil {
		return err
	}
	query := store.ListQuery{Filter: of, Window: window, After: after, Restated: req.GetAsRestated()}
	err = s.c.Store.List(ctx, query, func(e store.Entry) error {
		if !keep(&e) {
			return nil
		}
		kind, payload := s.content(&e)
		if families != nil {
			payload = wire.OnlyFamilies(kind, payload, families)
		}
		return send(rawcodec.Frame(wire.ListFrame(e.Position, e.CommittedAt, kind, payload, tokens.encode(e.Key))))
	})
	if err != nil {
		return fmt.Errorf("list buckets: %w", err)
	}
	return nil
}

// content is the content with which an entry is sent: none if no reader could decode
// it, so that one damaged entry does not block the others.
func (s *Server) content(e *store.Entry) (bucket.Kind, []byte) {
	if err := unreadable.Check(e); err != nil {
		s.c.Unreadable.Note(e, err)
		return wire.KindNone, nil
	}
	return e.Kind, e.Payload
}
