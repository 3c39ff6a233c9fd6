package standalone

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/weir-metrics/weir/client"
	"github.com/weir-metrics/weir/internal/cli"
	"github.com/weir-metrics/weir/internal/clock"
	"github.com/weir-metrics/weir/internal/dial"
	adminv1 "github.com/weir-metrics/weir/proto/gen/weir/admin/v1"
	"github.com/weir-metrics/weir/services/standalone/internal/leader"
)

// operator is what all commands of operators have: the connection, and how to print.
type operator struct {
	dial   dial.Config
	sqlite string // whose admin token is used if there is no other
	output output
}

func (o *operator) settings() []cli.Setting {
	return slices.Concat(o.dial.Settings(), []cli.Setting{
		{Env: "WEIR_SQLITE_FILE", Default: "weir.db", Value: cli.Text(&o.sqlite), Help: "SQLite file of weir run on this machine, whose admin token is used if WEIR_COLLECTOR_TOKEN is not set"},
		outputSetting(&o.output),
	})
}

// service connects, and finds a token. The caller calls done.
func (o *operator) service() (_ adminv1.AdminServiceClient, done func(), err error) {
	c, err := withToken(o.dial, o.sqlite)
	if err != nil {
		return nil, nil, err
	}
	conn, err := dial.Open(c, nil)
	if err != nil {
		return nil, nil, err
	}
	return adminv1.NewAdminServiceClient(conn), func() { _ = conn.Close() }, nil // nothing is in flight
}

// withToken adds the admin token of weir run on this machine if there is no other.
func withToken(c dial.Config, sqlite string) (dial.Config, error) {
	if !c.Token.IsZero() {
		return c, nil
	}
	for _, file := range []string{tokenFile(sqlite), tokenFile(simulatedFile)} {
		token, err := cli.ReadSecret(file)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return c, fmt.Errorf("admin token beside the SQLite file: %w", err)
		}
		c.Token = token
		break
	}
	return c, c.Validate() // it must not leave the machine in plain text
}

const (
	// limits of the calls: longer than a connection to a frozen collector lives, and
	// long enough for a restatement, through which the leader works within its budget.
	patience = 2 * time.Minute
	patient  = 30 * time.Minute
)

// call makes a call that is not repeated once it may have been carried out.
func call[Q, A proto.Message](ctx context.Context, limit time.Duration, req Q, do func(context.Context, Q) (A, error)) (out A, err error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	out, err = leader.Call(ctx, clock.System(), false, waiting, req, do)
	return out, explain(err)
}

// waiting says on stderr that a call is repeated.
func waiting(until time.Time, err error) {
	fmt.Fprintf(os.Stderr, "waiting until %s for a collector that leads: %s\n", until.UTC().Format(time.RFC3339), cli.Plain(oneLine(status.Convert(err).Message())))
}

// explain is a failed call as an operator reads it.
func explain(err error) error {
	s := status.Convert(err)
	switch {
	case err == nil:
		return nil
	case s.Code() == codes.Unauthenticated, s.Code() == codes.PermissionDenied:
		return fmt.Errorf("admin access is refused: %s; set WEIR_COLLECTOR_TOKEN_FILE to a file with a token of the collector's WEIR_GRPC_ADMIN_TOKEN_FILE, or run the command in the folder in which weir run keeps its SQLite file", s.Message())
	case s.Code() == codes.Unimplemented:
		return fmt.Errorf("the collector has no such service: its release is older than this command's: %s", s.Message())
	case s.Code() == codes.DeadlineExceeded:
		return errors.New("no response in time; weir audit list says whether the request was carried out")
	}
	if reason := client.Reason(err); reason != "" {
		return fmt.Errorf("%s (%s)", s.Message(), reason)
	}
	if s.Code() == codes.Unavailable {
		return fmt.Errorf("no collector responds; WEIR_COLLECTOR_ADDRESS must name one that runs: %s", s.Message())
	}
	return errors.New(s.Message())
}

// print writes a response as JSON, or calls text for people.
func (o *operator) print(w io.Writer, m proto.Message, text func(io.Writer)) error {
	if o.output == asJSON {
		_, err := fmt.Fprintln(w, protojson.MarshalOptions{Multiline: true, UseProtoNames: true, EmitUnpopulated: true}.Format(m))
		return err
	}
	return o.output.print(w, nil, text)
}

func at(unix int64) string { return time.Unix(unix, 0).UTC().Format(time.RFC3339) }
