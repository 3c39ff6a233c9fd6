package cfsim

import (
	"crypto/subtle"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"
)

// token is a configured token with the state of its flapping.
type token struct {
	Token
	flips int // guarded by Server.mu
}

func (t *token) may(p Permission) bool {
	return t.Permissions == nil || slices.Contains(t.Permissions, p)
}

func (t *token) seesZone(z *zoneState) bool {
	return (t.Zones == nil || slices.Contains(t.Zones, z.ID)) && t.seesAccount(z.account)
}

func (t *token) seesAccount(id string) bool {
	return t.Accounts == nil || slices.Contains(t.Accounts, id)
}

// status is the word that the verify calls use.
func (t *token) status(now time.Time) string {
	switch {
	case t.Disabled:
		return "disabled"
	case !t.ExpiresOn.IsZero() && !now.Before(t.ExpiresOn):
		return "expired"
	}
	return "active"
}

// restError is a refusal by the layer in front of GraphQL and by REST.
type restError struct {
	status  int
	code    int
	message string
	chain   []restError
}

var (
	errAuthentication = &restError{status: http.StatusUnauthorized, code: 10000, message: "Authentication error"}
	errInvalidToken   = &restError{status: http.StatusForbidden, code: 9109, message: "Invalid access token"}
	errAuthHeader     = &restError{
		status: http.StatusBadRequest, code: 6003, message: "Invalid request headers",
		chain: []restError{{code: 6111, message: "Invalid format for Authorization header"}},
	}
	errNotAllowed = &restError{status: http.StatusForbidden, code: 9109, message: "Unauthorized to access requested resource"}
	errNoRoute    = &restError{status: http.StatusNotFound, code: 7003, message: "Could not route to the requested resource, perhaps your object identifier is invalid?"}
)

// bearer is the shape of API tokens. A real one has at least forty characters;
// the simulator's own may be shorter.
var bearer = regexp.MustCompile(`^Bearer +([A-Za-z0-9_.-]+)$`)

// authenticate finds the token of a request. The error is nil or one to send.
func (s *Server) authenticate(r *http.Request, now time.Time) (*token, *restError) {
	header := r.Header.Get("Authorization")
	secret := ""
	switch {
	case header != "":
		m := bearer.FindStringSubmatch(strings.TrimSpace(header))
		if m == nil {
			return nil, errAuthHeader
		}
		secret = m[1]
	case r.Header.Get("X-Auth-Key") != "" && r.Header.Get("X-Auth-Email") != "":
		secret = r.Header.Get("X-Auth-Key")
	default:
		return nil, errAuthentication
	}
	var found *token
	for _, t := range s.tokens {
		if subtle.ConstantTimeCompare([]byte(t.Secret), []byte(secret)) == 1 {
			found = t
		}
	}
	if found == nil {
		return nil, errInvalidToken
	}
	if now.Before(found.FlapsUntil) {
		s.mu.Lock()
		found.flips++
		refuse := found.flips%2 == 1
		s.mu.Unlock()
		if refuse {
			return found, errInvalidToken
		}
	}
	if found.status(now) != "active" || now.Before(found.NotBefore) {
		return found, errAuthentication
	}
	return found, nil
}
