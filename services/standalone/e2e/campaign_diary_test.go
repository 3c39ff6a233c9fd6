package e2e

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/pgtest"
	"github.com/weir-metrics/weir/internal/testkit"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
)

// diary is what a follower has seen, from the first entry of the log on: every
// entry once, in order, whatever happened to its streams.
type diary struct {
	mu      sync.Mutex
	entries []*bucketv1.Entry
	chain   bucket.Chain
	wrong   []string
	broke   int // streams
}

func (d *diary) accuse(format string, args ...any) {
	d.wrong = append(d.wrong, fmt.Sprintf(format, args...))
}

// SnapshotBegin must not come: the history never changes, and nothing of it is dropped.
func (d *diary) SnapshotBegin(*bucketv1.StoreInfo) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.accuse("a follower at entry %d was made to begin anew", len(d.entries))
}

func (d *diary) Info(*bucketv1.StoreInfo)                     {}
func (d *diary) SnapshotEnd(*bucketv1.ResumePoint, time.Time) {}
func (d *diary) Disconnected(error, time.Duration)            { d.mu.Lock(); defer d.mu.Unlock(); d.broke++ }

func (d *diary) Entry(e *bucketv1.Entry) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if want := uint64(len(d.entries) + 1); e.GetRevision() != want {
		d.accuse("entry %d came where %d was due", e.GetRevision(), want)
		return nil
	}
	kind, payload, err := content(e)
	if err != nil {
		d.accuse("entry %d: %v", e.GetRevision(), err)
		return nil
	}
	d.chain = d.chain.Next(kind, e.GetCommittedAt().AsTime(), payload)
	if !bytes.Equal(d.chain[:], e.GetChain()) {
		d.accuse("entry %d has chain %x; from what came before it follows %s", e.GetRevision(), e.GetChain(), d.chain)
	}
	d.entries = append(d.entries, e)
	return nil
}

func (d *diary) Progress(point *bucketv1.ResumePoint, _ time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if n := uint64(len(d.entries)); point.GetRevision() != n {
		d.accuse("progress says %d when %d entries have come", point.GetRevision(), n)
	}
}

// sofar are the entries seen until now, and what was wrong with them.
func (d *diary) sofar() (entries []*bucketv1.Entry, wrong []string, broke int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]*bucketv1.Entry(nil), d.entries...), append([]string(nil), d.wrong...), d.broke
}

// content is an entry's kind and payload: the bytes that the chain is made of.
func content(e *bucketv1.Entry) (bucket.Kind, []byte, error) {
	marshal := proto.MarshalOptions{Deterministic: true}.Marshal
	switch k := e.GetKind().(type) {
	case *bucketv1.Entry_Bucket:
		b, err := marshal(k.Bucket)
		return bucket.KindBucket, b, err
	case *bucketv1.Entry_DatasetVersion:
		b, err := marshal(k.DatasetVersion)
		return bucket.KindDatasetVersion, b, err
	case *bucketv1.Entry_GapDecision:
		b, err := marshal(k.GapDecision)
		return bucket.KindGapDecision, b, err
	}
	return 0, nil, fmt.Errorf("a kind that nobody writes: %T", e.GetKind())
}

// checkLog holds the log as the database has it against what the follower saw,
// and what a stream from the beginning says now. The log goes on growing
// meanwhile, so all of it is about the entries up to one moment's head.
func (c *campaign) checkLog() {
	t := c.t
	head, err := strconv.Atoi(pgtest.Exec(t, c.dsn, "SELECT head FROM log"))
	if err != nil {
		t.Fatal(err)
	}
	stored := strings.Split(pgtest.Exec(t, c.dsn, fmt.Sprintf(`
		SELECT revision, encode(chain, 'hex'), encode(sha256(payload), 'hex'), sha256(payload) = checksum
		FROM (SELECT revision, chain, payload, checksum FROM bucket UNION ALL SELECT revision, chain, payload, checksum FROM event) e
		WHERE revision <= %d ORDER BY revision`, head)), "\n")
	var wrong []string
	if len(stored) != head {
		wrong = append(wrong, fmt.Sprintf("the head is %d, and %d entries are stored up to it", head, len(stored)))
	}
	testkit.Eventually(t, func() error {
		if seen, _, _ := c.diary.sofar(); len(seen) < head {
			return fmt.Errorf("the follower has seen %d entries of %d", len(seen), head)
		}
		return nil
	})
	seen, complaints, broke := c.diary.sofar()
	seen = seen[:head]
	c.violations("follower", complaints)
	for i, row := range stored {
		want := "nothing"
		if i < head {
			_, payload, err := content(seen[i])
			if err != nil {
				t.Fatal(err)
			}
			want = fmt.Sprintf("%d|%x|%x|t", i+1, seen[i].GetChain(), sha256.Sum256(payload))
		}
		if row != want {
			wrong = append(wrong, fmt.Sprintf("stored is %s, the follower saw %s", row, want))
		}
	}
	c.violations("log", wrong)
	c.violations("stream from the beginning", c.reread(seen))
	t.Logf("%d entries in the log; the follower's stream broke %d times", head, broke)
}

// reread follows the log once more, past the proxies.
func (c *campaign) reread(seen []*bucketv1.Entry) (wrong []string) {
	if len(seen) == 0 {
		return []string{"the follower saw nothing"}
	}
	store := pgtest.Exec(c.t, c.dsn, "SELECT store_id FROM log")
	stream, err := c.service().WatchBuckets(c.t.Context(), &bucketv1.WatchBucketsRequest{
		Start: &bucketv1.WatchBucketsRequest_Resume{Resume: &bucketv1.ResumePoint{StoreId: store, Chain: make([]byte, 16)}},
	})
	if err != nil {
		return []string{err.Error()}
	}
	for i := 0; i < len(seen); {
		m, err := stream.Recv()
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = errors.New("it ended")
			}
			return append(wrong, fmt.Sprintf("after %d entries: %v", i, err))
		}
		if e := m.GetEntry(); e != nil {
			if !proto.Equal(e, seen[i]) {
				wrong = append(wrong, fmt.Sprintf("entry %d is not what the follower saw", i+1))
			}
			i++
		}
	}
	return wrong
}
