package cloudflare

import (
	"bytes"
	"fmt"
	"unicode"
	"unicode/utf8"

	"github.com/weir-metrics/weir/internal/bucket"
)

// A body is validated before it is parsed. [scan] reads it once without allocating per
// value, and rejects invalid JSON, duplicate names, and bodies that would need more
// memory than the request allows. [parse] then needs no checks.

// bounds are the limits of a body. They follow from the request.
type bounds struct {
	// bytes is the longest body with status 200.
	bytes int64
	// memory is what [parse] may allocate, by the costs below.
	memory int64
	// lists are bounds of lists by name, of which the last with the name applies.
	// Other lists have [mostItems].
	lists []listBound
}

type listBound struct {
	name uint64 // nameHash
	most int
	// class is the class of a longer list: TooBig if a narrower request has a shorter
	// one, BadResponse if the API guarantees the bound.
	class Class
}

const (
	// mostDepth: data, viewer, accounts, zones, a selection, its groups and three
	// levels of a field, each with a list around it, are fifteen.
	mostDepth = 20
	// mostItems of a list is Cloudflare's largest page.
	mostItems = 10_000
	// mostNames of one object: a zone of the REST API has about thirty, a zone of
	// a response has one for each selection.
	mostNames = 256
	// mostName is the length of a name: those of GraphQL have up to 128 characters.
	mostName = 256
	// mostNumber is the length of a number: 1e308 written out has 309 digits.
	mostNumber = 512
)

// What parse allocates, in bytes, by Go's size classes on 64 bits.
const (
	costObject = 48 + 16 // the map and its place in a list or an object
	costNames  = 288     // room for the first eight names
	costName   = 96      // each further one, with what is copied while the map grows
	costList   = 24 + 16 // the slice and its place
	costItem   = 16
	costScalar = 16 + 16 // the text's header and the rounding of its length
)

// scanError is why a body was rejected.
type scanError struct {
	class Class
	what  string
}

func (e *scanError) Error() string { return e.what }

// span is a part of the body.
type span struct{ from, to int }

// members are the parts of an envelope; empty where it has no such part.
type members struct{ data, errors, success, result, info span }

// scanner reads one body. Names has the names of the open objects, by hash. A body in
// which hashes collide is rejected; regular responses have no collisions.
type scanner struct {
	b      []byte
	at     int
	memory int64
	bounds *bounds
	names  []uint64
	found  members
	ended  bool // the body ended before its value did
}

// scan validates a body. Names that differ only in case are duplicates, as for
// encoding/json, which would merge such objects: the groups of one zone could appear
// under the tag of another.
func scan(body []byte, b *bounds) (members, error) {
	s := newScanner(body, b)
	if err := s.whole(); err != nil {
		return members{}, err
	}
	return s.found, nil
}

func newScanner(body []byte, b *bounds) *scanner {
	return &scanner{b: body, bounds: b, names: make([]uint64, 0, 64)}
}

// whole reads one value up to the end of the body.
func (s *scanner) whole() error {
	s.space()
	if err := s.value(0, mostItems, TooBig); err != nil {
		return err
	}
	s.space()
	if s.at < len(s.b) {
		return s.broken("there is data after the JSON value")
	}
	return nil
}

func (s *scanner) broken(what string) error {
	return &scanError{BadResponse, fmt.Sprintf("%s at byte %d", what, s.at)}
}

// unexpected is the error of the byte at hand.
func (s *scanner) unexpected(want string) error {
	if s.at >= len(s.b) {
		s.ended = true
		return s.broken("it ends before " + want)
	}
	return s.broken(fmt.Sprintf("%q instead of %s", s.b[s.at], want))
}

func (s *scanner) space() {
	for s.at < len(s.b) {
		switch s.b[s.at] {
		case ' ', '\t', '\n', '\r':
			s.at++
		default:
			return
		}
	}
}

func (s *scanner) peek() byte {
	if s.at < len(s.b) {
		return s.b[s.at]
	}
	return 0
}

// spend counts what parse will allocate.
func (s *scanner) spend(bytes int) error {
	if s.memory += int64(bytes); s.memory > s.bounds.memory {
		return &scanError{TooBig, fmt.Sprintf("response has more values than requested: they need more than %d bytes", s.bounds.memory)}
	}
	return nil
}

// value reads the value at hand; a list may have that many items.
func (s *scanner) value(depth, most int, class Class) error {
	if depth > mostDepth {
		return s.broken(fmt.Sprintf("response nests deeper than %d levels", mostDepth))
	}
	switch c := s.peek(); {
	case c == '{':
		return s.object(depth)
	case c == '[':
		return s.list(depth, most, class)
	case c == '"':
		from := s.at
		if err := s.text(); err != nil {
			return err
		}
		return s.spend(costScalar + s.at - from)
	case c == '-' || '0' <= c && c <= '9':
		from := s.at
		if err := s.number(); err != nil {
			return err
		}
		return s.spend(costScalar + s.at - from)
	case c == 't':
		return s.literal("true")
	case c == 'f':
		return s.literal("false")
	case c == 'n':
		return s.literal("null")
	}
	return s.unexpected("a value")
}

func (s *scanner) object(depth int) error {
	s.at++
	if err := s.spend(costObject); err != nil {
		return err
	}
	first := len(s.names)
	defer func() { s.names = s.names[:first] }()
	s.space()
	if s.peek() == '}' {
		s.at++
		return nil
	}
	for {
		from := s.at
		if s.peek() != '"' {
			return s.unexpected("a name")
		}
		if err := s.text(); err != nil {
			return err
		}
		name := s.b[from:s.at]
		hash := nameHash(name)
		if err := s.name(name, hash, len(s.names)-first, first); err != nil {
			return err
		}
		s.space()
		if s.peek() != ':' {
			return s.unexpected(`":"`)
		}
		s.at++
		s.space()
		most, class := mostItems, TooBig
		for i := range s.bounds.lists {
			if l := &s.bounds.lists[i]; l.name == hash {
				most, class = l.most, l.class
			}
		}
		from = s.at
		if err := s.value(depth+1, most, class); err != nil {
			return err
		}
		if depth == 0 {
			s.member(hash, span{from, s.at})
		}
		s.space()
		switch s.peek() {
		case ',':
			s.at++
			s.space()
		case '}':
			s.at++
			return nil
		default:
			return s.unexpected(`"," or "}"`)
		}
	}
}

// name takes the n-th name of an object whose names begin at first.
func (s *scanner) name(name []byte, hash uint64, n, first int) error {
	switch {
	case len(name) > mostName:
		return s.broken(fmt.Sprintf("a name is longer than %d bytes", mostName))
	case n >= mostNames+len(s.bounds.lists):
		return s.broken(fmt.Sprintf("an object has more than %d names", n))
	}
	for _, h := range s.names[first:] {
		if h == hash {
			return s.broken(fmt.Sprintf("an object has the name %s twice", bucket.Clip(string(name))))
		}
	}
	s.names = append(s.names, hash)
	switch {
	case n == 0:
		return s.spend(costNames)
	case n >= 8:
		return s.spend(costName)
	}
	return nil
}

func (s *scanner) member(hash uint64, at span) {
	switch hash {
	case hashData:
		s.found.data = at
	case hashErrors:
		s.found.errors = at
	case hashSuccess:
		s.found.success = at
	case hashResult:
		s.found.result = at
	case hashInfo:
		s.found.info = at
	}
}

func (s *scanner) list(depth, most int, class Class) error {
	s.at++
	if err := s.spend(costList); err != nil {
		return err
	}
	s.space()
	if s.peek() == ']' {
		s.at++
		return nil
	}
	for n := 1; ; n++ {
		if n > most {
			return &scanError{class, fmt.Sprintf("a list has more than %d items at byte %d", most, s.at)}
		}
		if err := s.spend(costItem); err != nil {
			return err
		}
		if err := s.value(depth+1, mostItems, TooBig); err != nil {
			return err
		}
		s.space()
		switch s.peek() {
		case ',':
			s.at++
			s.space()
		case ']':
			s.at++
			return nil
		default:
			return s.unexpected(`"," or "]"`)
		}
	}
}

// text reads a string. Its length is limited only by the limit on bytes: callers that
// store labels truncate them.
func (s *scanner) text() error {
	for s.at++; s.at < len(s.b); s.at++ {
		switch c := s.b[s.at]; {
		case c == '"':
			s.at++
			return nil
		case c < ' ':
			return s.broken("a control character in a string")
		case c == '\\':
			s.at++
			switch s.peek() {
			case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
			case 'u':
				for range 4 {
					s.at++
					if c := s.peek(); (c < '0' || c > '9') && (c < 'a' || c > 'f') && (c < 'A' || c > 'F') {
						return s.unexpected("a hexadecimal digit")
					}
				}
			default:
				return s.unexpected("an escape")
			}
		}
	}
	return s.unexpected("the end of a string")
}

func (s *scanner) number() error {
	from := s.at
	if s.peek() == '-' {
		s.at++
	}
	if s.peek() == '0' {
		s.at++
	} else if !s.digits() {
		return s.unexpected("a digit")
	}
	if s.peek() == '.' {
		if s.at++; !s.digits() {
			return s.unexpected("a digit")
		}
	}
	if c := s.peek(); c == 'e' || c == 'E' {
		s.at++
		if c := s.peek(); c == '+' || c == '-' {
			s.at++
		}
		if !s.digits() {
			return s.unexpected("a digit")
		}
	}
	if s.at-from > mostNumber {
		return s.broken(fmt.Sprintf("a number is longer than %d characters", mostNumber))
	}
	return nil
}

func (s *scanner) digits() bool {
	from := s.at
	for s.at < len(s.b) && '0' <= s.b[s.at] && s.b[s.at] <= '9' {
		s.at++
	}
	return s.at > from
}

func (s *scanner) literal(word string) error {
	if rest := s.b[s.at:]; !bytes.HasPrefix(rest, []byte(word)) {
		s.ended = bytes.HasPrefix([]byte(word), rest)
		return s.unexpected("a value")
	}
	s.at += len(word)
	return nil
}

// Hashes of the names that bounds and envelopes know.
var (
	hashData    = nameHash([]byte("data"))
	hashErrors  = nameHash([]byte("errors"))
	hashSuccess = nameHash([]byte("success"))
	hashResult  = nameHash([]byte("result"))
	hashInfo    = nameHash([]byte("result_info"))
	hashPath    = nameHash([]byte("path"))
	hashChain   = nameHash([]byte("error_chain"))
)

// nameHash is equal for names that encoding/json considers equal: case, escapes and the
// quotes around the name do not matter.
func nameHash(name []byte) uint64 {
	const offset, prime = 14695981039346656037, 1099511628211 // FNV-1a
	h := uint64(offset)
	for i := 0; i < len(name); {
		c := name[i]
		switch {
		case c == '\\':
			var r rune
			r, i = unescape(name, i)
			h = (h ^ uint64(fold(r))) * prime
		case c >= utf8.RuneSelf:
			r, n := utf8.DecodeRune(name[i:])
			i += n
			h = (h ^ uint64(fold(r))) * prime
		default:
			i++
			if c == '"' {
				continue
			}
			if 'a' <= c && c <= 'z' {
				c -= 'a' - 'A'
			}
			h = (h ^ uint64(c)) * prime
		}
	}
	return h
}

// fold is the first of the characters that differ from r only in case.
func fold(r rune) rune {
	for {
		next := unicode.SimpleFold(r)
		if next <= r {
			return next
		}
		r = next
	}
}
