package compat

import (
	"slices"
	"strings"

	"github.com/weir-metrics/weir/internal/counter"
	"github.com/weir-metrics/weir/internal/expo"
	"github.com/weir-metrics/weir/internal/sample"
	"github.com/weir-metrics/weir/services/exposer/internal/counters"
	"github.com/weir-metrics/weir/services/exposer/internal/selection"
)

// Page is what is shown of another exporter.
type Page struct {
	Exporter string
	Families []Family // ascending by name
	LeftOut  []LeftOut
}

// LeftOut is a family of theirs that is not shown, and why.
type LeftOut struct{ Name, Why string }

// Family is a family of theirs.
type Family struct {
	Name, Help string
	// Gauge: a gauge of final buckets; otherwise a counter.
	Gauge bool
	// Dataset is the built-in dataset that Of is collected by, without a size.
	Dataset string
	// Of are the families of Weir. A counter has one; those of a gauge are added up, if several.
	Of []string
	// Labels are all labels of theirs.
	Labels []Label
	// Only are the series that it is made of; nil: all.
	Only *Filter
	// Sum are labels of ours over which a gauge is added up. Other labels of ours that theirs
	// lack stay.
	Sum []string
	// Scale is by what values are multiplied, to their unit; 0: 1.
	Scale float64
	// Round makes a share a state: 1 from a half on, 0 below.
	Round bool
	// Note says how it differs from theirs.
	Note string
}

// Label is a label of theirs.
type Label struct {
	Name string // theirs
	From string // a label of ours, or one of the constants below
	// As converts the value; nil: it is the same.
	As func(string) string
}

// What labels come from, besides labels of a family's own.
const (
	ofZone        = "zone"
	ofAccount     = "account"
	ofAccountSlug = "account slug" // lower case, "-" for spaces
	ofAccountID   = "account id"
)

// Filter chooses series by a label of ours.
type Filter struct {
	Label string
	Is    string   // the only value, which the label then need not show
	Not   []string // other values, if Is is empty
}

// Counters are the counters at one time. A [counters.Reading] implements it.
type Counters interface {
	// Has reports whether the page shows what belongs to an owner.
	Has(o selection.Owner) bool
	// Accounts yields the names of all accounts, once.
	Accounts(yield func(name string) bool)
	// Shown calls yield for the series of the families of a name, with the names of their own
	// labels.
	Shown(name string, yield func(labels []string, s *counter.Series, v counter.Value))
}

// missingFamily is the family that names what is not collected.
const missingFamily = "weir_compat_missing"

// Append appends the page at a time, which is that of c.
func (v *View) Append(dst []byte, o counters.Options, c Counters, at sample.Millis) []byte {
	names := naming(c.Accounts)
	for i := range v.page.Families {
		f := &v.page.Families[i]
		if f.Gauge {
			dst = v.appendGauge(dst, o, f, names, c, at)
		} else {
			dst = appendCounter(dst, o, f, names, c)
		}
	}
	dst = expo.AppendForeignHeader(dst, o.Format, missingFamily, "Always 1. Families that are not here because no final bucket of their dataset is known: it is not collected.", false)
	for _, f := range v.Missing(at) {
		dst = append(append(dst, missingFamily...), '{')
		dst = expo.AppendLabel(dst, "family", f.Name)
		dst = expo.AppendLabel(dst, "dataset", f.Dataset)
		dst[len(dst)-1] = '}'
		dst = append(dst, " 1\n"...)
	}
	return expo.AppendEnd(dst, o.Format)
}

func appendCounter(dst []byte, o counters.Options, f *Family, names accountNames, c Counters) []byte {
	bare, suffixed := strings.CutSuffix(f.Name, expo.CounterSuffix)
	created := o.Created && suffixed && o.Format == expo.OpenMetrics
	var m *mapping
	c.Shown(f.Of[0], func(own []string, s *counter.Series, v counter.Value) {
		if m == nil {
			dst = expo.AppendForeignHeader(dst, o.Format, f.Name, f.Help, true)
		}
		if m == nil || !slices.Equal(m.own, own) {
			m = f.over(own)
		}
		if !m.takes(s.Values) {
			return
		}
		of := place{zone: s.Zone, account: s.Account, slug: names.of(s.Account), id: s.Scope.ID}
		dst = m.append(append(dst, f.Name...), of, s.Values)
		dst = append(expo.AppendValue(dst, f.value(v.Live)), '\n')
		if created {
			dst = append(append(dst, bare...), "_created"...)
			dst = append(expo.AppendSeconds(m.append(dst, of, s.Values), v.Began), '\n')
		}
	})
	return dst
}

func (v *View) appendGauge(dst []byte, o counters.Options, f *Family, names accountNames, c Counters, at sample.Millis) []byte {
	var series []string // in order of their first appearance
	sums := map[string]float64{}
	var text []byte
	for _, name := range f.Of {
		for _, h := range v.shown(name, at) {
			if !c.Has(h.owner()) {
				continue
			}
			m := f.over(h.set.Family.Labels)
			of := place{zone: h.set.Zone, account: h.set.Account, slug: names.of(h.set.Account), id: h.scope.ID}
			for i := range h.set.Len() {
				if own := h.set.Own(i); m.takes(own) {
					text = m.append(text[:0], of, own)
					if _, known := sums[string(text)]; !known {
						series = append(series, string(text))
					}
					sums[string(text)] += h.set.Value(i)
				}
			}
		}
	}
	if len(series) == 0 {
		return dst
	}
	dst = expo.AppendForeignHeader(dst, o.Format, f.Name, f.Help, false)
	for _, s := range series {
		dst = append(append(dst, f.Name...), s...)
		dst = append(expo.AppendValue(dst, f.value(sums[s])), '\n')
	}
	return dst
}

// value converts a value to theirs.
func (f *Family) value(v float64) float64 {
	switch {
	case f.Round && v >= 0.5:
		return 1
	case f.Round:
		return 0
	case f.Scale != 0:
		return v * f.Scale
	}
	return v
}

// mapping is a family of theirs over series of ours that have the same names of labels.
type mapping struct {
	own    []string
	only   *Filter
	by     int // label of only; -1: there is none
	labels []mapped
}

type mapped struct {
	Label
	at int // in the values of the family's own labels; -1: elsewhere
}

// over is the family's mapping of series with these labels of their own. Where a catalogue file
// gave a family other labels, those that theirs need and ours lack are left out.
func (f *Family) over(own []string) *mapping {
	m := &mapping{own: own, only: f.Only, by: -1}
	used := map[string]bool{}
	for _, name := range f.Sum {
		used[name] = true
	}
	if f.Only != nil {
		m.by = slices.Index(own, f.Only.Label)
		used[f.Only.Label] = f.Only.Is != ""
	}
	place := []string{ofZone, ofAccount, ofAccountSlug, ofAccountID}
	shown := map[string]bool{}
	for _, l := range f.Labels {
		at := slices.Index(own, l.From)
		if at < 0 && !slices.Contains(place, l.From) {
			continue
		}
		used[l.From], shown[l.Name] = true, true
		m.labels = append(m.labels, mapped{l, at})
	}
	if !used[ofZone] {
		m.labels = append(m.labels, mapped{zone, -1})
	}
	if !slices.ContainsFunc(place[1:], func(from string) bool { return used[from] }) {
		m.labels = append(m.labels, mapped{account, -1})
	}
	for at, name := range own {
		if used[name] {
			continue
		}
		l := Label{Name: name, From: name}
		if shown[name] { // theirs of this name is another label
			l.Name = "weir_" + name
		}
		m.labels = append(m.labels, mapped{l, at})
	}
	return m
}

// takes reports whether a series with these values of its own labels is one of the family's.
func (m *mapping) takes(own []string) bool {
	switch {
	case m.only == nil:
		return true
	case m.by < 0:
		return m.only.Is == ""
	case m.only.Is != "":
		return own[m.by] == m.only.Is
	}
	return !slices.Contains(m.only.Not, own[m.by])
}

// place is what a series is about.
type place struct{ zone, account, slug, id string }

// append appends the labels of a series, in braces, and a space. Labels without a value are none.
func (m *mapping) append(dst []byte, of place, own []string) []byte {
	dst = append(dst, '{')
	for i := range m.labels {
		l := &m.labels[i]
		var value string
		switch {
		case l.at >= 0:
			value = own[l.at]
		case l.From == ofZone:
			value = of.zone
		case l.From == ofAccount:
			value = of.account
		case l.From == ofAccountSlug:
			value = of.slug
		case l.From == ofAccountID:
			value = of.id
		}
		if l.As != nil {
			value = l.As(value)
		}
		if value != "" {
			dst = expo.AppendLabel(dst, l.Name, value)
		}
	}
	if dst[len(dst)-1] == '{' {
		return append(dst[:len(dst)-1], ' ')
	}
	dst[len(dst)-1] = '}'
	return append(dst, ' ')
}

// accountNames are the names of accounts as theirs writes them, by ours.
type accountNames map[string]string

// naming is how accounts are written. Those that would be written alike keep their own names:
// else their series would be one.
func naming(accounts func(yield func(string) bool)) accountNames {
	n, by := accountNames{}, map[string][]string{}
	for name := range accounts {
		s := slug(name)
		by[s] = append(by[s], name)
		n[name] = s
	}
	for _, alike := range by {
		if len(alike) > 1 {
			for _, name := range alike {
				n[name] = name
			}
		}
	}
	return n
}

func (n accountNames) of(account string) string {
	if s, known := n[account]; known {
		return s
	}
	return slug(account)
}

func slug(account string) string { return strings.ToLower(strings.ReplaceAll(account, " ", "-")) }
