package push

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/sample"
	"github.com/weir-metrics/weir/services/standalone/internal/export"
	"github.com/weir-metrics/weir/services/standalone/internal/verify"
)

// Report is a file of windows that a destination refused, whole or in part: a file of
// findings, for --missing-only of weir backfill import and export. It is read and written
// anew for each refusal, so that it may be moved away while the process runs.
type Report struct {
	Path    string
	StoreID string
}

// refused is a window and why samples of it were refused.
type refused struct {
	part
	reason  string
	samples int64
}

// merged joins refusals of one window for one reason.
func merged(windows []refused) (out []refused) {
	at := map[refused]int{}
	for _, w := range windows {
		key := w
		key.samples = 0
		if i, there := at[key]; there {
			out[i].samples += w.samples
			continue
		}
		at[key] = len(out)
		out = append(out, w)
	}
	return out
}

// Add adds windows. When it returns, they are on the disk. Windows that are in the report
// already are left as they are.
func (r *Report) Add(windows []refused) error {
	if len(windows) == 0 {
		return nil
	}
	findings, err := r.read()
	if err != nil {
		return fmt.Errorf("read the report of what was refused: %w", err)
	}
	for i := range windows {
		findings = insert(findings, &windows[i])
	}
	h := verify.Header{Format: verify.Format, StoreID: r.StoreID}
	for i := range findings {
		start, end := bucket.Time(findings[i].First/1000), bucket.Time((findings[i].Last+1)/1000)
		if h.Start == 0 || start < h.Start {
			h.Start = start
		}
		h.End = max(h.End, end)
	}
	var text bytes.Buffer
	err = verify.Write(&text, h, findings)
	if err == nil {
		err = export.WriteWhole(r.Path, text.Bytes())
	}
	if err != nil {
		return fmt.Errorf("write the report of what was refused: %w", err)
	}
	return nil
}

func (r *Report) read() (findings []verify.Finding, err error) {
	f, err := os.Open(r.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	h, err := verify.ReadFindings(f, verify.Missing, func(x verify.Finding) error {
		findings = append(findings, x)
		return nil
	})
	switch {
	case err != nil:
		return nil, fmt.Errorf("%s: %w", r.Path, err)
	case h.StoreID != r.StoreID:
		return nil, fmt.Errorf("%s is about the store %s, not %s: move it away", r.Path, h.StoreID, r.StoreID)
	}
	return findings, nil
}

// insert adds a window to findings that are in order, and joins it with its neighbours.
func insert(findings []verify.Finding, w *refused) []verify.Finding {
	x := verify.Finding{
		Kind: verify.Missing, Dataset: w.dataset, ScopeKind: w.scope.Kind.String(), ScopeID: w.scope.ID,
		First: sample.Millis(w.window.Start) * 1000, Last: sample.Millis(w.window.End)*1000 - 1, Samples: w.samples, Reason: w.reason,
	}
	i, _ := slices.BinarySearchFunc(findings, x, compare)
	for _, j := range []int{i - 1, i} {
		if j >= 0 && j < len(findings) && same(&findings[j], &x) && findings[j].First <= x.First && x.Last <= findings[j].Last {
			return findings // it is there
		}
	}
	if i > 0 && follows(&findings[i-1], &x) {
		i--
		findings[i].Last, findings[i].Samples = x.Last, findings[i].Samples+x.Samples
	} else {
		findings = slices.Insert(findings, i, x)
	}
	if i+1 < len(findings) && follows(&findings[i], &findings[i+1]) {
		findings[i].Last, findings[i].Samples = findings[i+1].Last, findings[i].Samples+findings[i+1].Samples
		findings = slices.Delete(findings, i+1, i+2)
	}
	return findings
}

func compare(a, b verify.Finding) int {
	return cmp.Or(cmp.Compare(a.Dataset, b.Dataset), cmp.Compare(a.ScopeKind, b.ScopeKind), cmp.Compare(a.ScopeID, b.ScopeID), cmp.Compare(a.First, b.First))
}

func same(a, b *verify.Finding) bool {
	return a.Dataset == b.Dataset && a.ScopeKind == b.ScopeKind && a.ScopeID == b.ScopeID
}

func follows(a, b *verify.Finding) bool {
	return same(a, b) && a.Reason == b.Reason && a.Last+1 == b.First
}
