package counters

import (
	"bytes"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/counter"
	"github.com/weir-metrics/weir/internal/expo"
	"github.com/weir-metrics/weir/services/exposer/internal/follow"
	"github.com/weir-metrics/weir/services/exposer/internal/selection"
)

// history is one epoch of one store.
type history struct {
	id      identity
	epoch   counter.Epoch
	decoder follow.Decoder
	fold    *counter.Fold
	settled time.Time // nothing may be asked about before

	datasets map[string]*bucket.Definition // newest versions
	defined  bool                          // since facts were rendered
	rendered uint64                        // changes of the fold, then
	series   int
	room     int               // bytes that a page has for the series, about
	facts    []byte            // families about datasets
	zones    []zoneLine        // of cloudflare_zone_info
	owners   []selection.Owner // of the series, each once
	accounts map[string]bool   // names of accounts that have series
}

// zoneLine is a line of cloudflare_zone_info.
type zoneLine struct {
	selection.Owner
	line string
}

// identity is what totals belong to.
type identity struct{ store, epoch string }

func newHistory(store string) *history {
	return &history{id: identity{store: store}, fold: counter.New(), datasets: map[string]*bucket.Definition{}}
}

// begin takes the epoch.
func (h *history) begin(e counter.Epoch) {
	h.id.epoch, h.epoch, h.settled = e.ID, e, e.Settled
}

// add counts an entry.
func (h *history) add(e *bucket.Entry) error {
	if d := e.Definition; e.Kind == bucket.KindDatasetVersion && d != nil {
		if had := h.datasets[d.Dataset]; had == nil || had.Version <= d.Version {
			h.datasets[d.Dataset], h.defined = d, true
		}
	}
	return h.fold.Add(e)
}

// settleEvery bounds how often all series are gone through.
const settleEvery = time.Minute

// settle folds what has been played out by a time into the sums.
func (h *history) settle(t time.Time) {
	if t.Sub(h.settled) >= settleEvery {
		h.fold.Settle(t)
		h.settled = t
	}
}

// prepare renders what has changed, so that pages only read.
func (h *history) prepare() {
	if h.defined {
		h.defined = false
		h.renderFacts()
	}
	if now := h.fold.Changes(); now != h.rendered {
		h.rendered = now
		h.renderSeries()
	}
}

func (h *history) renderFacts() {
	const size, delay = "weir_dataset_bucket_seconds", "weir_counter_delay_seconds"
	ids := slices.Sorted(maps.Keys(h.datasets))
	line := func(name string, d *bucket.Definition, v time.Duration) {
		h.facts = append(append(h.facts, name...), '{')
		h.facts = expo.AppendLabel(h.facts, "dataset", d.Dataset)
		h.facts[len(h.facts)-1] = '}'
		h.facts = append(expo.AppendValue(append(h.facts, ' '), v.Seconds()), '\n')
	}
	h.facts = appendGauge(h.facts[:0], delay, "How much later than the traffic the counters of the dataset are.")
	for _, id := range ids {
		if d := h.datasets[id]; slices.ContainsFunc(d.Families, func(f bucket.Family) bool { return f.Additive }) {
			line(delay, d, counter.Delay(d))
		}
	}
	h.facts = appendGauge(h.facts, size, "Length of the dataset's buckets.")
	for _, id := range ids {
		line(size, h.datasets[id], h.datasets[id].Size)
	}
}

// renderSeries renders the labels of new series, and the zones that have any.
func (h *history) renderSeries() {
	type zone struct{ name, account string }
	zones := map[zone]*counter.Series{} // the one that began last, where a zone took over a name
	owners := map[selection.Owner]bool{}
	h.series, h.room, h.accounts = 0, 0, map[string]bool{}
	for fam := range h.fold.Families {
		for _, s := range fam.Series() {
			h.series++
			h.accounts[s.Account], owners[ownerOf(s)] = true, true
			render(s, fam.Labels)
			h.room += len(fam.Name) + len(s.Owner.Text) + len(s.Own.Text) + mostValues
			if s.Scope.Kind != bucket.Zone {
				continue
			}
			if z := (zone{s.Zone, s.Account}); zones[z] == nil || zones[z].Began() < s.Began() {
				zones[z] = s
			}
		}
	}
	h.owners = slices.AppendSeq(h.owners[:0], maps.Keys(owners))
	h.zones = h.zones[:0]
	for z, s := range zones {
		line := append([]byte(zoneInfo), '{')
		line = expo.AppendLabel(line, "zone", z.name)
		if z.account != "" {
			line = expo.AppendLabel(line, "account", z.account)
		}
		line = expo.AppendLabel(line, "zone_id", s.Scope.ID)
		line[len(line)-1] = '}'
		h.zones = append(h.zones, zoneLine{ownerOf(s), string(line) + " 1\n"})
	}
	slices.SortFunc(h.zones, func(a, b zoneLine) int { return strings.Compare(a.line, b.line) })
}

func ownerOf(s *counter.Series) selection.Owner {
	return selection.Owner{Scope: s.Scope, Zone: s.Zone, Account: s.Account}
}

// mostValues is the length of most values, with the space before them.
const mostValues = 16

// render renders what a page shows of a series each time: the labels of its owner, after a brace,
// and its own, unless another series that shares them has done it.
func render(s *counter.Series, names []string) {
	if s.Owner.Text == nil {
		text := []byte{'{'}
		if s.Zone != "" {
			text = expo.AppendLabel(text, "zone", s.Zone)
		}
		if s.Account != "" {
			text = expo.AppendLabel(text, "account", s.Account)
		}
		s.Owner.Text = bytes.Clone(text)
	}
	if s.Own.Text == nil && len(names) > 0 {
		var text []byte
		for i, name := range names {
			text = expo.AppendLabel(text, name, s.Values[i])
		}
		s.Own.Text = bytes.Clone(text)
	}
}

const zoneInfo = "cloudflare_zone_info"

// appendGauge opens a family of gauges.
func appendGauge(dst []byte, name, help string) []byte {
	return expo.AppendHeader(dst, expo.Text, name, &bucket.Family{Help: help})
}

// appendEpoch appends the families about the epoch.
func (h *history) appendEpoch(dst []byte) []byte {
	const info, begin = "weir_counter_epoch_info", "weir_counter_epoch_begin_timestamp_seconds"
	dst = appendGauge(dst, info, "Always 1. The epoch in which the counters are sums: they begin at 0 in another one.")
	dst = expo.AppendLabel(append(append(dst, info...), '{'), "epoch", h.epoch.ID)
	dst[len(dst)-1] = '}'
	dst = append(dst, " 1\n"...)
	dst = appendGauge(dst, begin, "When the epoch began: later buckets are counted.")
	dst = append(append(dst, begin...), ' ')
	dst = strconv.AppendFloat(dst, float64(h.epoch.Began.UnixMilli())/1000, 'f', -1, 64)
	return append(dst, '\n')
}
