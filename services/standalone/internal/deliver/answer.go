package deliver

import (
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
	"slices"
	"strings"
)

// AnswerError is a response of 2xx that is no receiver's: the page of a login or of a proxy, an
// error in JSON, or what the protocol does not have. It acknowledges nothing.
type AnswerError struct {
	Status int
	Type   string // content type
	Text   string // the response, cut to a few lines
	// Once: the request must not be sent again. It may have been taken, and would count twice.
	Once bool
}

func (e *AnswerError) Error() string {
	what := "no answer of its protocol"
	switch {
	case page(e.Type, e.Text):
		what = "an HTML page, as a login or a proxy does"
	case failure(e.Text):
		what = "an error in JSON, as a gateway does"
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

// failure reports whether a text is an object of JSON that says that something failed. Gateways
// answer so with 200.
func failure(text string) bool {
	var m struct {
		Status, Error, Errors, Success any
	}
	if json.Unmarshal([]byte(text), &m) != nil { // also of what is no object
		return false
	}
	status, _ := m.Status.(string)
	return slices.Contains([]string{"error", "fail", "failed", "failure"}, strings.ToLower(status)) || m.Success == false || says(m.Error) || says(m.Errors)
}

// says reports whether a member about errors has any.
func says(member any) bool {
	switch is := member.(type) {
	case string:
		return is != ""
	case bool:
		return is
	case []any:
		return len(is) > 0
	case map[string]any:
		return len(is) > 0
	}
	return false
}

// acknowledged returns an error for a response of 2xx that is an HTML page, or says that
// something failed.
func (a *answer) acknowledged() error {
	kind := a.header.Get("Content-Type")
	if !page(kind, a.text) && !failure(a.text) {
		return nil
	}
	return &AnswerError{Status: a.status, Type: kind, Text: clip(strings.TrimSpace(a.text))}
}
