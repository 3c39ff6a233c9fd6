package deliver

import (
	"fmt"
	"mime"
	"net/http"
	"strings"
)

// AnswerError is a response of 2xx that is no receiver's: the page of a login or of a proxy, or
// what the protocol does not have. It acknowledges nothing.
type AnswerError struct {
	Status int
	Type   string // content type
	Text   string // the response, cut to a few lines
	// Once: the request must not be sent again. It may have been taken, and would count twice.
	Once bool
}

func (e *AnswerError) Error() string {
	what := "no answer of its protocol"
	if page(e.Type, e.Text) {
		what = "an HTML page, as a login or a proxy does"
	}
	return fmt.Sprintf("the receiver answered with %d and %s (content type %q): %s", e.Status, what, e.Type, e.Text)
}

// page reports whether a response is one for people. Frameworks name HTML as the type of
// responses without a body, too.
func page(contentType, text string) bool {
	if strings.TrimSpace(text) == "" {
		return false
	}
	switch kind, _, _ := mime.ParseMediaType(contentType); kind {
	case "text/html", "application/xhtml+xml":
		return true
	}
	return strings.HasPrefix(http.DetectContentType([]byte(text)), "text/html")
}

// acknowledged returns an error for a response of 2xx that is an HTML page.
func (a *answer) acknowledged() error {
	kind := a.header.Get("Content-Type")
	if !page(kind, a.text) {
		return nil
	}
	return &AnswerError{Status: a.status, Type: kind, Text: clip(strings.TrimSpace(a.text))}
}
