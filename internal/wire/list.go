package wire

import (
	"math"
	"unicode/utf8"

	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// UnmarshalList is [proto.Unmarshal] for readers of long lists. It decodes the messages that
// [ListFrame] makes of a bucket with a tenth of the allocations: all texts of a message
// share one string, and all values one slice. Any other message goes to proto.Unmarshal.
func UnmarshalList(data []byte, m *bucketv1.ListBucketsResponse) error {
	var l listed
	if l.response(string(data), m) {
		return nil
	}
	return proto.Unmarshal(data, m)
}

// listed decodes one message. Its methods report whether it has nothing but known
// fields, each message and each family's rows once.
type listed struct {
	message  *messages
	families []bucketv1.FamilyRows
	labels   []string
	values   []float64
}

// messages are allocated together.
type messages struct {
	entry  bucketv1.Entry
	kind   bucketv1.Entry_Bucket
	bucket bucketv1.Bucket
	scope  bucketv1.Scope
	at     timestamppb.Timestamp
}

func (l *listed) response(s string, m *bucketv1.ListBucketsResponse) bool {
	var entry, token string
	for s != "" {
		f, ok := next(&s)
		switch {
		case ok && f.is(fieldListEntry, protowire.BytesType) && entry == "":
			entry = f.text
		case ok && f.is(fieldListPageToken, protowire.BytesType) && utf8.ValidString(f.text):
			token = f.text
		default:
			return false
		}
	}
	if entry == "" {
		return false
	}
	l.message = new(messages)
	if !l.entry(entry) {
		return false
	}
	proto.Reset(m)
	m.Entry, m.PageToken = &l.message.entry, token
	return true
}

func (l *listed) entry(s string) bool {
	e := &l.message.entry
	for s != "" {
		f, ok := next(&s)
		switch {
		case ok && f.is(fieldEntryRevision, protowire.VarintType):
			e.Revision = f.number
		case ok && f.is(fieldEntryChain, protowire.BytesType):
			e.Chain = []byte(f.text)
		case ok && f.is(fieldEntryCommittedAt, protowire.BytesType) && e.CommittedAt == nil:
			e.CommittedAt = &l.message.at
			if !l.timestamp(f.text) {
				return false
			}
		case ok && f.is(kindBucket, protowire.BytesType) && e.Kind == nil:
			l.message.kind.Bucket = &l.message.bucket
			e.Kind = &l.message.kind
			if !l.bucket(f.text) {
				return false
			}
		default:
			return false
		}
	}
	return true
}

func (l *listed) timestamp(s string) bool {
	for s != "" {
		f, ok := next(&s)
		switch {
		case ok && f.is(fieldTimestampSeconds, protowire.VarintType):
			l.message.at.Seconds = int64(f.number)
		case ok && f.is(fieldTimestampNanos, protowire.VarintType):
			l.message.at.Nanos = int32(f.number)
		default:
			return false
		}
	}
	return true
}

func (l *listed) bucket(s string) bool {
	if !l.reserve(s) {
		return false
	}
	b, families := &l.message.bucket, 0
	for s != "" {
		f, ok := next(&s)
		if !ok {
			return false
		}
		switch kind := f.kind; {
		case kind == protowire.VarintType:
			switch f.field {
			case 2:
				b.DatasetVersion = uint32(f.number)
			case 4:
				b.StartUnixSeconds = int64(f.number)
			case 5:
				b.SizeSeconds = uint32(f.number)
			case 8:
				b.Finality = bucketv1.Finality(f.number)
			case 9:
				b.Origin = bucketv1.Origin(f.number)
			case 12:
				b.ReadUnixSeconds = int64(f.number)
			default:
				return false
			}
		case f.is(11, protowire.Fixed64Type):
			b.SampleInterval = math.Float64frombits(f.number)
		case kind != protowire.BytesType:
			return false
		case f.field == 3 && b.Scope == nil:
			b.Scope = &l.message.scope
			if !l.scope(f.text) {
				return false
			}
		case f.field == 13:
			rows := &l.families[families]
			b.Families[families] = rows
			families++
			if !l.rows(f.text, rows) {
				return false
			}
		case !utf8.ValidString(f.text):
			return false
		case f.field == 1:
			b.Dataset = f.text
		case f.field == 6:
			b.Zone = f.text
		case f.field == 7:
			b.Account = f.text
		case f.field == 10:
			b.Variant = f.text
		default:
			return false
		}
	}
	return true
}

// reserve allocates what the bucket's families need.
func (l *listed) reserve(s string) bool {
	families, labels, values := 0, 0, 0
	for s != "" {
		f, ok := next(&s)
		if !ok {
			return false
		}
		if !f.is(13, protowire.BytesType) {
			continue
		}
		families++
		for rows := f.text; rows != ""; {
			f, ok := next(&rows)
			switch {
			case !ok:
				return false
			case f.is(2, protowire.BytesType):
				labels++
			case f.is(3, protowire.BytesType):
				values += len(f.text) / 8
			}
		}
	}
	if families > 0 {
		l.families = make([]bucketv1.FamilyRows, families)
		l.message.bucket.Families = make([]*bucketv1.FamilyRows, families)
		l.labels, l.values = make([]string, 0, labels), make([]float64, 0, values)
	}
	return true
}

func (l *listed) scope(s string) bool {
	for s != "" {
		f, ok := next(&s)
		switch {
		case ok && f.is(1, protowire.VarintType):
			l.message.scope.Kind = bucketv1.ScopeKind(f.number)
		case ok && f.is(2, protowire.BytesType) && utf8.ValidString(f.text):
			l.message.scope.Id = f.text
		default:
			return false
		}
	}
	return true
}

func (l *listed) rows(s string, rows *bucketv1.FamilyRows) bool {
	labels := len(l.labels)
	for s != "" {
		f, ok := next(&s)
		switch {
		case ok && f.is(1, protowire.BytesType) && utf8.ValidString(f.text):
			rows.Family = f.text
		case ok && f.is(2, protowire.BytesType) && utf8.ValidString(f.text):
			l.labels = append(l.labels, f.text)
		case ok && f.is(3, protowire.BytesType) && rows.Values == nil && len(f.text) > 0 && len(f.text)%8 == 0:
			values := len(l.values)
			for at := 0; at < len(f.text); at += 8 {
				l.values = append(l.values, math.Float64frombits(fixed64(f.text[at:])))
			}
			rows.Values = l.values[values:len(l.values):len(l.values)]
		default:
			return false
		}
	}
	if len(l.labels) > labels {
		rows.LabelValues = l.labels[labels:len(l.labels):len(l.labels)]
	}
	return true
}

// part is one field of a message. Of a field with a length it has the text, of others the
// number.
type part struct {
	field  protowire.Number
	kind   protowire.Type
	number uint64
	text   string
}

func (p *part) is(field protowire.Number, kind protowire.Type) bool {
	return p.field == field && p.kind == kind
}

// next takes the first field off a message. It knows the wire types of the contract.
func next(s *string) (p part, ok bool) {
	tag, ok := uvarint(s)
	if !ok || tag>>3 == 0 || tag>>3 > uint64(protowire.MaxValidNumber) {
		return p, false
	}
	p.field, p.kind = protowire.Number(tag>>3), protowire.Type(tag&7)
	switch p.kind {
	case protowire.VarintType:
		p.number, ok = uvarint(s)
		return p, ok
	case protowire.Fixed64Type:
		if len(*s) < 8 {
			return p, false
		}
		p.number, *s = fixed64(*s), (*s)[8:]
		return p, true
	case protowire.BytesType:
		n, ok := uvarint(s)
		if !ok || n > uint64(len(*s)) {
			return p, false
		}
		p.text, *s = (*s)[:n], (*s)[n:]
		return p, true
	}
	return p, false
}

func uvarint(s *string) (v uint64, ok bool) {
	for i := 0; i < len(*s) && i < 9; i++ { // a tenth byte is for proto.Unmarshal to judge
		c := (*s)[i]
		v |= uint64(c&0x7f) << (7 * i)
		if c < 0x80 {
			*s = (*s)[i+1:]
			return v, true
		}
	}
	return 0, false
}

func fixed64(s string) uint64 {
	_ = s[7]
	return uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 |
		uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
}
