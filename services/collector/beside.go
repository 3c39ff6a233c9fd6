package collector

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"github.com/weir-metrics/weir/internal/cli"
	"github.com/weir-metrics/weir/internal/clock"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"github.com/weir-metrics/weir/services/collector/internal/bucketsvc"
	"github.com/weir-metrics/weir/services/collector/internal/feed"
	"github.com/weir-metrics/weir/services/collector/internal/rawcodec"
	"github.com/weir-metrics/weir/services/collector/internal/status"
	"github.com/weir-metrics/weir/services/collector/internal/store"
	"github.com/weir-metrics/weir/services/collector/internal/store/postgres"
	"github.com/weir-metrics/weir/services/collector/internal/store/sqlite"
	"github.com/weir-metrics/weir/services/collector/internal/trouble"
)

// StoreFacts is what a store says about itself.
type StoreFacts = store.Facts

// InspectStore asks the configured database about itself. It changes nothing, and it also
// works beside the process that owns a SQLite file, and on a schema of another release.
func InspectStore(ctx context.Context, c Config, clk clock.Clock) (StoreFacts, error) {
	if c.DatabaseURL.IsZero() {
		f, err := sqlite.Facts(ctx, c.SQLiteFile, clk)
		if err != nil {
			return f, fmt.Errorf("%w (WEIR_SQLITE_FILE is %s)", err, c.SQLiteFile)
		}
		return f, nil
	}
	f, err := postgres.Facts(ctx, c.DatabaseURL.Reveal())
	if err != nil {
		return f, fmt.Errorf("%w (WEIR_DATABASE_URL)", err)
	}
	return f, nil
}

// Beside is a read-only BucketService of this process on the configured store, for
// commands that run beside the collector and cannot reach it, as if WEIR_GRPC_LISTEN of
// "weir run" is off. It never leads. Its scopes and coverage are those of the datasets that c
// selects.
type Beside struct {
	grpc.ClientConnInterface
	store  store.Store
	server *grpc.Server
	conn   *grpc.ClientConn
}

// OpenBeside opens the store without migrating it or taking its lease.
func OpenBeside(ctx context.Context, c Config, clk clock.Clock) (_ *Beside, err error) {
	if clk == nil {
		clk = clock.System()
	}
	datasets, err := c.catalogue()
	if err != nil {
		return nil, err
	}
	s, err := openBeside(ctx, c, clk)
	if err != nil {
		return nil, err
	}
	quiet := slog.New(slog.DiscardHandler)
	service, err := bucketsvc.New(bucketsvc.Config{
		Store: s, Feed: feed.New(feed.Config{Source: s}), Version: cli.BuildInfo().Version, Retention: c.retention(), Logger: quiet,
		Status: &status.Source{
			Store: s, Catalogue: datasets, Clock: clk, Retention: c.retention(), Leading: func() bool { return false },
			Trouble: trouble.New(quiet, clk.Now, nil),
		},
	})
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	b := &Beside{store: s, server: grpc.NewServer(rawcodec.ServerOption())}
	bucketv1.RegisterBucketServiceServer(b.server, service)
	memory := bufconn.Listen(1 << 20)
	b.conn, err = grpc.NewClient("passthrough:///memory",
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return memory.DialContext(ctx) }),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(16<<20)),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("connect to the store's service: %w", err), s.Close())
	}
	b.ClientConnInterface = b.conn
	go func() { _ = b.server.Serve(memory) }() // ends with Close
	return b, nil
}

func openBeside(ctx context.Context, c Config, clk clock.Clock) (store.Store, error) {
	if c.DatabaseURL.IsZero() {
		s, err := sqlite.OpenBeside(ctx, c.SQLiteFile, clk)
		if err != nil {
			return nil, fmt.Errorf("%w (WEIR_SQLITE_FILE is %s)", err, c.SQLiteFile)
		}
		return s, nil
	}
	s, err := postgres.Open(ctx, postgres.Options{
		DSN: c.DatabaseURL.Reveal(), TransactionPooling: c.Pooler == "transaction", Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return nil, fmt.Errorf("open store (WEIR_DATABASE_URL): %w", explain(err))
	}
	return s, nil
}

// Close ends the service and closes the store.
func (b *Beside) Close() error {
	err := b.conn.Close()
	b.server.Stop()
	return errors.Join(err, b.store.Close())
}
