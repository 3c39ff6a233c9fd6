package backfill

import (
	"encoding/binary"
	"errors"
	"io"
	"math"
	"strings"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
)

// spool holds rows of families whose blocks come later, from the list that was made for
// an earlier block. Beyond most bytes it drops the families that are needed last; they are
// listed again. Not for concurrent use.
type spool struct {
	most, used int
	held       map[stretch]*held
}

// stretch is what one list covers besides families.
type stretch struct {
	dataset string
	bucket.Window
}

// held is what a spool has of one list: what the families share of each bucket, and the
// rows of each family.
type held struct {
	heads   tape
	names   map[naming]uint64
	all     []naming
	start   bucket.Time
	rev     bucket.Revision
	columns map[string]*column
}

// naming is what the buckets of a scope have in common until something is renamed or
// changed.
type naming struct {
	scope                  bucket.Scope
	zone, account, variant string
	version                uint32
	size                   time.Duration
}

// column is the rows of one family, bucket by bucket.
type column struct {
	rows   tape
	need   int // place of the block that needs it, or taken
	labels map[string]uint64
	all    []string
}

// taken is the need of a column that is being read.
const taken = -1

// open begins to hold the families of a list that is about to be read, with the places of
// their blocks. It returns nil if there is none.
func (s *spool) open(of stretch, families map[string]int) *held {
	s.close(of)
	if len(families) == 0 {
		return nil
	}
	h := &held{names: map[naming]uint64{}, columns: map[string]*column{}}
	for name, need := range families {
		h.columns[name] = &column{need: need, labels: map[string]uint64{}}
	}
	s.held[of] = h
	return h
}

// close drops what is left of a list.
func (s *spool) close(of stretch) {
	if h := s.held[of]; h != nil {
		for name := range h.columns {
			s.drop(h, name)
		}
		delete(s.held, of)
	}
}

func (s *spool) drop(h *held, family string) {
	c := h.columns[family]
	delete(h.columns, family)
	s.used -= c.rows.size + textSize(c.all)
	if len(h.columns) == 0 {
		s.used -= h.heads.size + len(h.all)*nameSize
		h.heads, h.names, h.all = tape{}, nil, nil
	}
}

// What an element of a dictionary takes besides its text, roughly: the string in a slice
// and in a map.
const (
	entrySize = 64
	nameSize  = 400
)

func textSize(all []string) int {
	n := 0
	for _, s := range all {
		n += entrySize + len(s)
	}
	return n
}

// add holds a bucket's rows, except those of families that cannot be read.
func (s *spool) add(h *held, b *bucket.Bucket, rev bucket.Revision, unreadable map[string]bool) {
	if len(h.columns) == 0 {
		return
	}
	n := naming{scope: b.Scope, zone: b.Zone, account: b.Account, variant: b.Variant, version: b.Version, size: b.Size}
	at, known := h.names[n]
	if !known {
		at = uint64(len(h.all))
		// A bucket's texts are parts of one string, its message.
		n.scope.ID, n.zone, n.account, n.variant = strings.Clone(n.scope.ID), strings.Clone(n.zone), strings.Clone(n.account), strings.Clone(n.variant)
		h.names[n], h.all = at, append(h.all, n)
		s.used += nameSize
	}
	p := binary.AppendUvarint(h.heads.room(4*binary.MaxVarintLen64, &s.used), at)
	p = binary.AppendVarint(p, int64(b.Start-h.start))
	p = binary.AppendVarint(p, int64(rev-h.rev))
	h.heads.took(appendNumber(p, b.SampleInterval))
	h.start, h.rev = b.Start, rev
	for name, c := range h.columns {
		var rows *bucket.Rows
		for i := range b.Families {
			if b.Families[i].Family == name {
				rows = &b.Families[i]
				break
			}
		}
		c.add(rows, unreadable[name], &s.used)
	}
	for s.used > s.most && s.dropLast() {
	}
}

// dropLast drops the family that is needed last, if there is one that is not being read.
func (s *spool) dropLast() bool {
	var from *held
	last, need := "", taken
	for _, h := range s.held {
		for name, c := range h.columns {
			if c.need > need {
				from, last, need = h, name, c.need
			}
		}
	}
	if from == nil {
		return false
	}
	s.drop(from, last)
	return true
}

// What a column has of a bucket begins with one of these, or with the number of rows
// above codeRows.
const (
	codeNone       = iota // no rows
	codeUnreadable        // rows that cannot be read
	codeOne               // one row without labels
	codeRows
)

func (c *column) add(rows *bucket.Rows, unreadable bool, used *int) {
	if rows == nil || unreadable {
		code := byte(codeNone)
		if unreadable {
			code = codeUnreadable
		}
		c.rows.took(append(c.rows.room(1, used), code))
		return
	}
	p := c.rows.room((3+len(rows.Labels)+len(rows.Values))*binary.MaxVarintLen64, used)
	if len(rows.Labels) == 0 && len(rows.Values) == 1 {
		c.rows.took(appendNumber(append(p, codeOne), rows.Values[0]))
		return
	}
	p = binary.AppendUvarint(p, codeRows+uint64(len(rows.Values)))
	p = binary.AppendUvarint(p, uint64(rows.Width()))
	for _, text := range rows.Labels {
		at, known := c.labels[text]
		if !known {
			at = uint64(len(c.all))
			text = strings.Clone(text)
			c.labels[text], c.all = at, append(c.all, text)
			*used += entrySize + len(text)
		}
		p = binary.AppendUvarint(p, at)
	}
	for _, v := range rows.Values {
		p = appendNumber(p, v)
	}
	c.rows.took(p)
}

// take returns a family's rows and holds them no longer; nil if the spool has not all
// of them.
func (s *spool) take(of stretch, family string) *replay {
	h := s.held[of]
	if h == nil || h.columns[family] == nil {
		return nil
	}
	c := h.columns[family]
	c.need = taken
	return &replay{s: s, h: h, dataset: of.dataset, family: family, column: c}
}

// replay reads the rows of one family. The buckets that it returns have what a block
// needs, and are valid until the next call.
type replay struct {
	s               *spool
	h               *held
	column          *column
	dataset, family string

	heads, rows reading
	start       bucket.Time
	rev         bucket.Revision
	b           bucket.Bucket
	of          [1]bucket.Rows
}

func (r *replay) next() (*bucket.Bucket, bucket.Revision, error) {
	for {
		if r.heads.done(&r.h.heads) {
			r.s.drop(r.h, r.family)
			return nil, 0, io.EOF
		}
		n := &r.h.all[r.heads.uvarint()]
		r.start = r.start + bucket.Time(r.heads.varint())
		r.rev += bucket.Revision(r.heads.varint())
		interval := r.heads.number()
		r.b = bucket.Bucket{
			Key:  bucket.Key{Dataset: r.dataset, Scope: n.scope, Start: r.start},
			Size: n.size, Version: n.version, Zone: n.zone, Account: n.account, Variant: n.variant, SampleInterval: interval,
		}
		if r.rows.done(&r.column.rows) {
			return nil, 0, errShort
		}
		switch code := r.rows.uvarint(); code {
		case codeUnreadable:
			continue
		case codeNone:
		case codeOne:
			r.of[0] = bucket.Rows{Family: r.family, Values: append(r.of[0].Values[:0], r.rows.number())}
			r.b.Families = r.of[:]
		default:
			count, width := int(code-codeRows), int(r.rows.uvarint())
			rows := bucket.Rows{Family: r.family, Labels: r.of[0].Labels[:0], Values: r.of[0].Values[:0]}
			for range count * width {
				rows.Labels = append(rows.Labels, r.column.all[r.rows.uvarint()])
			}
			for range count {
				rows.Values = append(rows.Values, r.rows.number())
			}
			r.of[0] = rows
			r.b.Families = r.of[:]
		}
		return &r.b, r.rev, nil
	}
}

var errShort = errors.New("the spool has fewer rows than buckets")

// appendNumber appends a value: whole numbers that a float64 holds exactly take as many bytes
// as they need.
func appendNumber(p []byte, v float64) []byte {
	if v >= 0 && v < 1<<53 {
		if n := uint64(v); math.Float64bits(float64(n)) == math.Float64bits(v) {
			return binary.AppendUvarint(p, n<<1)
		}
	}
	return binary.LittleEndian.AppendUint64(append(p, 1), math.Float64bits(v))
}

// tape is records one behind the other, in pieces, so that it grows without being copied.
// No record crosses the end of a piece.
type tape struct {
	pieces [][]byte
	size   int // of all pieces
}

const (
	firstPiece = 1 << 10
	mostPiece  = 64 << 10
)

// room returns the place to append a record of at most n bytes to, which took takes.
func (t *tape) room(n int, used *int) []byte {
	if last := len(t.pieces) - 1; last >= 0 && cap(t.pieces[last])-len(t.pieces[last]) >= n {
		return t.pieces[last]
	}
	size := max(n, min(mostPiece, max(firstPiece, t.size)))
	t.pieces = append(t.pieces, make([]byte, 0, size))
	t.size += size
	*used += size
	return t.pieces[len(t.pieces)-1]
}

func (t *tape) took(p []byte) { t.pieces[len(t.pieces)-1] = p }

// reading is a place in a tape.
type reading struct {
	piece int
	left  []byte
}

// done reports whether there is no further record.
func (r *reading) done(t *tape) bool {
	for len(r.left) == 0 {
		if r.piece == len(t.pieces) {
			return true
		}
		r.left = t.pieces[r.piece]
		r.piece++
	}
	return false
}

func (r *reading) uvarint() uint64 {
	v, n := binary.Uvarint(r.left)
	r.left = r.left[n:]
	return v
}

func (r *reading) varint() int64 {
	v, n := binary.Varint(r.left)
	r.left = r.left[n:]
	return v
}

func (r *reading) number() float64 {
	u := r.uvarint()
	if u&1 == 0 {
		return float64(u >> 1)
	}
	bits := binary.LittleEndian.Uint64(r.left)
	r.left = r.left[8:]
	return math.Float64frombits(bits)
}
