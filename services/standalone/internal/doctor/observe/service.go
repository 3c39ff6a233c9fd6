package observe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/weir-metrics/weir/internal/dial"
	adminv1 "github.com/weir-metrics/weir/proto/gen/weir/admin/v1"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"github.com/weir-metrics/weir/services/standalone/internal/doctor"
)

const (
	// call is the time-out of a unary call.
	call = 20 * time.Second
	// newest is the range of windows of which the times of reading are compared.
	newest = 3 * time.Hour
	// oldest is how many of the oldest buckets are read to find out when they were
	// committed: the first may have come late.
	oldest = 1000
	// noAddress is what gRPC says of a name without addresses, as a Service in Kubernetes is
	// while no pod of it is ready.
	noAddress = "no children to pick from"
	// none is a family that no dataset has, so that buckets come without rows.
	none = "weir_none"
)

// Status asks one collector.
func Status(ctx context.Context, address string, conn grpc.ClientConnInterface) doctor.Collector {
	outer := ctx
	ctx, cancel := context.WithTimeout(outer, call)
	defer cancel()
	// A collector that has just begun, or a name that is being resolved, is waited for;
	// a refused connection is not.
	s, err := bucketv1.NewBucketServiceClient(conn).GetStatus(ctx, &bucketv1.GetStatusRequest{})
	return doctor.Collector{Address: address, Status: s, Err: explain(outer, err)}
}

// Admin asks the AdminService of a collector for the newest audit event. Nothing changes,
// and a standby answers too.
func Admin(ctx context.Context, conn grpc.ClientConnInterface) *doctor.Admin {
	outer := ctx
	ctx, cancel := context.WithTimeout(outer, call)
	defer cancel()
	_, err := adminv1.NewAdminServiceClient(conn).ListAuditEvents(ctx, &adminv1.ListAuditEventsRequest{Limit: 1})
	a := &doctor.Admin{Read: status.Code(err) == codes.PermissionDenied, Err: explain(outer, err)}
	if a.Read {
		a.Err = fmt.Errorf("the bearer token has no admin access: %s", status.Convert(err).Message())
	}
	return a
}

// explain says what an operator can do with an error of gRPC. The context is that of the
// run, without the time-out of the call.
func explain(run context.Context, err error) error {
	s, ok := status.FromError(err)
	if err == nil || !ok {
		return err
	}
	switch s.Code() {
	case codes.Unavailable:
		if s.Message() == noAddress || strings.Contains(s.Message(), dial.NoAddress) {
			return errors.New("its name has no address now: no process is ready behind it, or the name is wrong")
		}
		return fmt.Errorf("it does not respond: %s", s.Message())
	case codes.Unauthenticated:
		return fmt.Errorf("it asks for a bearer token, or refuses the one that was given: %s", s.Message())
	case codes.PermissionDenied:
		return fmt.Errorf("the bearer token may not read: %s", s.Message())
	case codes.Unimplemented:
		return fmt.Errorf("it is not a collector: %s", s.Message())
	case codes.DeadlineExceeded:
		if run.Err() != nil {
			return fmt.Errorf("no response: %w", context.Cause(run))
		}
		return fmt.Errorf("no response within %s", call)
	}
	return fmt.Errorf("%s: %s", s.Code(), s.Message())
}

// Log reads what the BucketService has about the log: when the newest buckets were read,
// and when the oldest were committed.
func Log(ctx context.Context, from string, conn grpc.ClientConnInterface, now time.Time) *doctor.Log {
	l := &doctor.Log{From: from}
	l.Err = explain(ctx, readLog(ctx, bucketv1.NewBucketServiceClient(conn), now, l))
	return l
}

func readLog(ctx context.Context, api bucketv1.BucketServiceClient, now time.Time, l *doctor.Log) error {
	ctx, cancel := context.WithTimeout(ctx, 3*call)
	defer cancel()
	large := grpc.MaxCallRecvMsgSize(16 << 20) // what collectors send at most
	datasets, err := api.ListDatasets(ctx, &bucketv1.ListDatasetsRequest{}, large)
	if err != nil {
		return err
	}
	scopes, err := api.ListScopes(ctx, &bucketv1.ListScopesRequest{}, large)
	if err != nil {
		return err
	}
	l.Datasets, l.Scopes = datasets.GetDatasets(), scopes.GetScopes()
	reads := map[string]*doctor.Reads{}
	versions := map[string]uint32{}
	for _, d := range l.Datasets {
		versions[d.GetDataset()] = d.GetVersion()
		reads[d.GetDataset()] = &doctor.Reads{Dataset: d.GetDataset(), Delay: d.GetDelay().AsDuration()}
	}
	err = list(ctx, api, now.Add(-newest), now, 0, func(e *bucketv1.Entry) {
		b := e.GetBucket()
		r := reads[b.GetDataset()]
		if b == nil || r == nil || b.GetDatasetVersion() != versions[b.GetDataset()] {
			return // an earlier version may have had another delay
		}
		end := time.Unix(b.GetStartUnixSeconds()+int64(b.GetSizeSeconds()), 0)
		age := time.Unix(b.GetReadUnixSeconds(), 0).Sub(end)
		if r.Buckets++; r.Buckets == 1 || age < r.Least {
			r.Least = age
		}
		if age < r.Delay {
			if r.Early++; r.Early == 1 {
				r.Window = fmt.Sprintf("%s to %s", time.Unix(b.GetStartUnixSeconds(), 0).UTC().Format(time.RFC3339), end.UTC().Format(time.TimeOnly))
			}
		}
	})
	if err != nil {
		return err
	}
	for _, r := range reads {
		l.Reads = append(l.Reads, *r)
	}
	slices.SortFunc(l.Reads, func(a, b doctor.Reads) int { return strings.Compare(a.Dataset, b.Dataset) })
	return list(ctx, api, time.Unix(1, 0), now, oldest, func(e *bucketv1.Entry) {
		if at := e.GetCommittedAt().AsTime(); l.OldestCommit.IsZero() || at.Before(l.OldestCommit) {
			l.OldestCommit = at
		}
	})
}

// list reads buckets without their rows; all with a limit of 0.
func list(ctx context.Context, api bucketv1.BucketServiceClient, from, to time.Time, limit int, each func(*bucketv1.Entry)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends the stream
	stream, err := api.ListBuckets(ctx, &bucketv1.ListBucketsRequest{StartUnixSeconds: from.Unix(), EndUnixSeconds: to.Unix(), Families: []string{none}})
	if err != nil {
		return err
	}
	for n := 0; limit == 0 || n < limit; n++ {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		each(m.GetEntry())
	}
	return nil
}
