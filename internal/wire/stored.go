package wire

import (
	"encoding/hex"
	"fmt"
	"unicode/utf8"

	"github.com/weir-metrics/weir/internal/bucket"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// frameRoom is the space in a message besides the payload: revision, chain, time, token,
// tags and lengths, a few hundred bytes.
const frameRoom = 4096

// MaxPayload is the maximum length of a payload that fits into a message.
const MaxPayload = MaxMessage - frameRoom

// CheckStored reports why a stored payload cannot be sent to readers: they could not parse
// the message, or a bucket does not match the store's key, so that the order would be
// broken. One such message would end every stream that reaches it, for ever.
//
// It reads the bytes without allocating, so that streams need not decode what they send. A
// payload that passes can still be rejected by [DecodeBucket] in a reader, which then
// continues with the next entry.
func CheckStored(kind bucket.Kind, key bucket.Key, payload []byte) error {
	if len(payload) > MaxPayload {
		return fmt.Errorf("the stored payload has %d bytes; it must have at most %d", len(payload), MaxPayload)
	}
	shape, known := shapes[kind]
	if !known {
		return nil // sent without content
	}
	if err := shape.check(payload); err != nil {
		return fmt.Errorf("the stored payload is not a valid %s: %w", shape.name, err)
	}
	switch kind {
	case bucket.KindBucket:
	case bucket.KindRestatement: // of the bucket in whose place it is listed
		payload = restatedBucket(payload)
	default:
		return nil
	}
	if is, err := keyOf(payload); err != nil {
		return err
	} else if is != key {
		return fmt.Errorf("the stored payload belongs to bucket %s, but the store's key is %s", is, key)
	}
	return nil
}

// shape is what protobuf requires of a message's bytes.
type shape struct {
	name   string
	fields []field // by number
}

type field struct {
	known   bool
	wire    protowire.Type
	packed  int // of a repeated number: the size of its elements if that is fixed, -1 for varints; 0: not repeated
	text    bool
	message *shape
}

var shapes = func() map[bucket.Kind]*shape {
	known := map[protoreflect.FullName]*shape{}
	of := func(m proto.Message) *shape { return shapeOf(m.ProtoReflect().Descriptor(), known) }
	return map[bucket.Kind]*shape{
		bucket.KindBucket:         of(&bucketv1.Bucket{}),
		bucket.KindDatasetVersion: of(&bucketv1.DatasetVersion{}),
		bucket.KindGapDecision:    of(&bucketv1.GapDecision{}),
		bucket.KindState:          of(&bucketv1.State{}),
		bucket.KindRestatement:    of(&bucketv1.Restatement{}),
		bucket.KindAudit:          of(&bucketv1.AuditEvent{}),
	}
}()

func shapeOf(d protoreflect.MessageDescriptor, known map[protoreflect.FullName]*shape) *shape {
	if s := known[d.FullName()]; s != nil {
		return s
	}
	s := &shape{name: string(d.Name())}
	known[d.FullName()] = s
	for i := range d.Fields().Len() {
		f := d.Fields().Get(i)
		var out field
		switch f.Kind() {
		case protoreflect.StringKind:
			out = field{wire: protowire.BytesType, text: true}
		case protoreflect.BytesKind:
			out = field{wire: protowire.BytesType}
		case protoreflect.MessageKind:
			out = field{wire: protowire.BytesType, message: shapeOf(f.Message(), known)}
		case protoreflect.DoubleKind, protoreflect.Fixed64Kind, protoreflect.Sfixed64Kind:
			out = field{wire: protowire.Fixed64Type, packed: 8}
		case protoreflect.FloatKind, protoreflect.Fixed32Kind, protoreflect.Sfixed32Kind:
			out = field{wire: protowire.Fixed32Type, packed: 4}
		default:
			out = field{wire: protowire.VarintType, packed: -1}
		}
		if !f.IsList() {
			out.packed = 0
		}
		out.known = true
		for len(s.fields) <= int(f.Number()) {
			s.fields = append(s.fields, field{})
		}
		s.fields[f.Number()] = out
	}
	return s
}

// check reports what protobuf could not decode. A known field with another wire
// type is an unknown field to protobuf, and skipped here as there.
func (s *shape) check(b []byte) error {
	for len(b) > 0 {
		number, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return protowire.ParseError(n)
		}
		b = b[n:]
		var f field
		if int(number) < len(s.fields) {
			f = s.fields[number]
		}
		if kind != protowire.BytesType || !f.known || f.wire != protowire.BytesType && f.packed == 0 {
			if n = protowire.ConsumeFieldValue(number, kind, b); n < 0 {
				return fmt.Errorf("field %d: %w", number, protowire.ParseError(n))
			}
			b = b[n:]
			continue
		}
		value, n := protowire.ConsumeBytes(b)
		if n < 0 {
			return fmt.Errorf("field %d: %w", number, protowire.ParseError(n))
		}
		b = b[n:]
		switch {
		case f.message != nil:
			if err := f.message.check(value); err != nil {
				return fmt.Errorf("field %d: %w", number, err)
			}
		case f.text && !utf8.Valid(value):
			return fmt.Errorf("field %d is not UTF-8", number)
		case f.packed > 0 && len(value)%f.packed != 0:
			return fmt.Errorf("field %d has %d bytes of numbers of %d", number, len(value), f.packed)
		case f.packed < 0:
			for len(value) > 0 {
				_, n := protowire.ConsumeVarint(value)
				if n < 0 {
					return fmt.Errorf("field %d: %w", number, protowire.ParseError(n))
				}
				value = value[n:]
			}
		}
	}
	return nil
}

// restatedBucket is the bucket inside a restatement; empty if there is none, or several,
// which protobuf would merge.
func restatedBucket(payload []byte) (b []byte) {
	n := 0
	each(payload, func(number protowire.Number, _ uint64, text []byte) {
		if number == 1 && text != nil {
			b = text
			n++
		}
	})
	if n != 1 {
		return nil
	}
	return b
}

// keyOf reads the key from a bucket's bytes, which have the right shape. If a field occurs
// twice, the last one counts, as in protobuf.
func keyOf(payload []byte) (key bucket.Key, err error) {
	var kind uint64
	scope := func(b []byte) {
		each(b, func(number protowire.Number, n uint64, text []byte) {
			switch {
			case number == 1 && text == nil:
				kind = n
			case number == 2 && text != nil:
				key.Scope.ID = string(text)
			}
		})
	}
	each(payload, func(number protowire.Number, n uint64, text []byte) {
		switch {
		case number == 1 && text != nil:
			key.Dataset = string(text)
		case number == 3 && text != nil:
			scope(text)
		case number == 4 && text == nil:
			key.Start = bucket.Time(n)
		}
	})
	if kind != uint64(bucket.Zone) && kind != uint64(bucket.Account) {
		return key, fmt.Errorf("the stored payload has scope kind %d", kind)
	}
	key.Scope.Kind = bucket.ScopeKind(kind)
	if len(key.Scope.ID) != hex.EncodedLen(16) || len(key.Dataset) > maxDatasetLen {
		return key, fmt.Errorf("the stored payload is of scope id %.40q, dataset %.80q", key.Scope.ID, key.Dataset)
	}
	return key, nil
}

// ZoneLabel returns the zone label of a stored bucket, state or restatement; empty if there is none.
// The payload must have passed [CheckStored].
func ZoneLabel(kind bucket.Kind, payload []byte) (zone string) {
	var at protowire.Number
	switch kind {
	case bucket.KindBucket:
		at = 6
	case bucket.KindState:
		at = 4
	case bucket.KindRestatement:
		at, payload = 6, restatedBucket(payload)
	default:
		return ""
	}
	each(payload, func(number protowire.Number, _ uint64, text []byte) {
		if number == at && text != nil {
			zone = string(text)
		}
	})
	return zone
}

// OnlyFamilies returns a stored bucket, or a restatement of one, without the rows of other
// families, as its bytes are: it decodes nothing. The payload must have passed [CheckStored],
// is not changed, and is the result if it has no other families. Other kinds have none.
func OnlyFamilies(kind bucket.Kind, payload []byte, families map[string]bool) []byte {
	switch kind {
	case bucket.KindBucket:
		return onlyFamilies(payload, families)
	case bucket.KindRestatement:
		whole := restatedBucket(payload)
		kept := onlyFamilies(whole, families)
		if len(kept) == len(whole) {
			return payload
		}
		out := protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), kept)
		for left := payload; len(left) > 0; {
			number, kind, n := protowire.ConsumeTag(left)
			field := n + protowire.ConsumeFieldValue(number, kind, left[n:])
			if number != 1 || kind != protowire.BytesType {
				out = append(out, left[:field]...)
			}
			left = left[field:]
		}
		return out
	}
	return payload
}

func onlyFamilies(payload []byte, families map[string]bool) []byte {
	const at = 13
	var out []byte
	changed := false
	for kept, left := 0, payload; ; { // payload[kept:] without left is to be kept
		if len(left) == 0 {
			if !changed {
				return payload
			}
			return append(out, payload[kept:]...)
		}
		from := len(payload) - len(left)
		number, kind, n := protowire.ConsumeTag(left)
		left = left[n:]
		if number != at || kind != protowire.BytesType {
			left = left[protowire.ConsumeFieldValue(number, kind, left):]
			continue
		}
		rows, n := protowire.ConsumeBytes(left)
		left = left[n:]
		var name []byte
		each(rows, func(number protowire.Number, _ uint64, text []byte) {
			if number == 1 && text != nil {
				name = text
			}
		})
		if families[string(name)] {
			continue
		}
		if !changed {
			changed, out = true, make([]byte, 0, len(payload))
		}
		out = append(out, payload[kept:from]...)
		kept = len(payload) - len(left)
	}
}

// each yields the fields of a message that are varints or have a length.
func each(b []byte, take func(number protowire.Number, n uint64, text []byte)) {
	for len(b) > 0 {
		number, kind, n := protowire.ConsumeTag(b)
		b = b[n:]
		switch kind {
		case protowire.VarintType:
			v, n := protowire.ConsumeVarint(b)
			take(number, v, nil)
			b = b[n:]
		case protowire.BytesType:
			v, n := protowire.ConsumeBytes(b)
			if v == nil {
				v = []byte{}
			}
			take(number, 0, v)
			b = b[n:]
		default:
			b = b[protowire.ConsumeFieldValue(number, kind, b):]
		}
	}
}
