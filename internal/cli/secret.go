package cli

import (
	"bytes"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"

	"github.com/weir-metrics/weir/internal/smallfile"
)

const redacted = "<redacted>"

// Secret is a text that is redacted by all formatting: %v, %#v, JSON, YAML and slog, and
// inside an unexported field of a struct. The zero value is no secret.
type Secret struct {
	// A pointer, because fmt looks into unexported fields without asking
	// their String method, but prints a nested pointer as an address.
	text *string
	file string
}

// NewSecret returns a secret that is text.
func NewSecret(text string) Secret {
	if text == "" {
		return Secret{}
	}
	return Secret{text: &text}
}

// ReadSecret returns the content of a file as a secret, without a byte-order mark and
// surrounding white space. An empty file is an error: it is usually a mount that is not
// filled yet. The caller must validate the text; [Secret.Flaw] adds the file's name to
// its error.
func ReadSecret(file string) (Secret, error) {
	content, err := smallfile.Read(file, smallfile.Secret)
	if err != nil && !isPath(file) {
		return Secret{}, errors.New("must be the path of a readable file; the value is not shown, since it does not look like a path and may be the secret itself")
	}
	if err != nil {
		return Secret{}, fmt.Errorf("read the secret: %w", err)
	}
	text := trimSecret(string(content))
	switch {
	case text == "":
		return Secret{}, fmt.Errorf("read the secret: %s is empty", file)
	case bytes.HasPrefix(content, []byte("\xff\xfe")), bytes.HasPrefix(content, []byte("\xfe\xff")):
		return Secret{}, fmt.Errorf("read the secret: %s is in UTF-16; it must be in ASCII or UTF-8", file)
	case strings.ContainsRune(text, 0):
		return Secret{}, fmt.Errorf("read the secret: %s is not a text file: it contains a zero byte", file)
	}
	s := NewSecret(text)
	if info, err := os.Stat(file); err != nil || info.Mode().IsRegular() {
		s.file = file // a pipe gives its content once
	}
	return s, nil
}

// trimSecret removes a byte-order mark and surrounding white space.
func trimSecret(text string) string { return strings.TrimSpace(strings.TrimPrefix(text, "\ufeff")) }

// isPath distinguishes a path, which may be shown, from a secret that was given by mistake
// instead of the name of its file.
func isPath(text string) bool {
	return strings.ContainsAny(text, "/.") && !strings.Contains(text, "://") && !strings.ContainsAny(text, "@= \t\r\n")
}

// Reveal returns the text. Call it only where the secret is sent.
func (s Secret) Reveal() string {
	if s.text == nil {
		return ""
	}
	return *s.text
}

// IsZero reports whether there is no secret.
func (s Secret) IsZero() bool { return s.text == nil }

// File returns the file that the secret was read from, or "".
func (s Secret) File() string { return s.file }

// Flaw completes an error about the secret's text with the name of its file.
func (s Secret) Flaw(err error) error {
	if err == nil || s.file == "" {
		return err
	}
	return fmt.Errorf("%s: %w", s.file, err)
}

// Reread returns the present content of the secret's file, so that it can be rotated
// without a restart. A secret that is not from a file is returned as it is.
func (s Secret) Reread() (Secret, error) {
	if s.file == "" {
		return s, nil
	}
	return ReadSecret(s.file)
}

// Equal compares in a time that depends only on the lengths of the texts.
func (s Secret) Equal(other Secret) bool {
	return subtle.ConstantTimeCompare([]byte(s.Reveal()), []byte(other.Reveal())) == 1
}

// String implements [fmt.Stringer] without showing the secret.
func (s Secret) String() string {
	if s.IsZero() {
		return ""
	}
	return redacted
}

// GoString implements [fmt.GoStringer] without showing the secret.
func (s Secret) GoString() string { return fmt.Sprintf("cli.Secret(%q)", s.String()) }

// MarshalText implements [encoding.TextMarshaler], and with it JSON and YAML,
// without showing the secret.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler], for secrets inside a
// [Tree].
func (s *Secret) UnmarshalText(text []byte) error {
	*s = NewSecret(string(text))
	return nil
}

// LogValue implements [slog.LogValuer] without showing the secret.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// SecretText is a secret. Beside its own names it can be given as a file: with
// _FILE after the environment variable, -file after the flag, _file after the
// key. There is no flag for the text itself, since every user of a machine can
// read other processes' command lines.
func SecretText(p *Secret) Value { return &secretText{p} }

type secretText struct{ p *Secret }

func (v *secretText) Set(text string) error {
	*v.p = NewSecret(trimSecret(text))
	return nil
}

func (v *secretText) String() string  { return v.p.String() }
func (v *secretText) Allowed() string { return "a secret, or a file that contains it" }
