// Package auth decides by bearer tokens who may call which gRPC service.
//
// Tokens stand in a file, one a line, and are read again for every call: to
// replace one, add the new line, let the clients change over, drop the old line.
// A call is judged when it begins; a stream that runs goes on when its token is
// withdrawn, and is refused when it comes back.
package auth

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"github.com/weir-metrics/weir/internal/cli"
	"github.com/weir-metrics/weir/services/collector/internal/reason"
)

// Grant opens services to whoever shows one of its tokens.
type Grant struct {
	// Name says in logs what is granted: "read".
	Name string
	// Tokens holds one token a line; see [Check].
	Tokens cli.Secret
	// Services are full names: "weir.bucket.v1.BucketService".
	Services []string
}

// Check reports what is wrong with a list of tokens: one a line, printable
// ASCII without spaces, at least one. Empty lines are skipped. The error names
// the line and not what is in it.
func Check(tokens cli.Secret) error {
	_, err := digests(tokens)
	return err
}

// Gate judges calls. Safe for concurrent use.
type Gate struct {
	log    *slog.Logger
	grants []*grant
}

type grant struct {
	Grant
	mu    sync.Mutex // guards the rest
	known []digest   // of the tokens that were read last
	fault string     // why the file is not in use, as it was logged; "" when it is
}

// digest stands for a token, so that neither its text nor its length is in what
// is compared.
type digest [sha256.Size]byte

// New returns a gate that opens nothing but what is granted; its error is that
// of [Check].
func New(log *slog.Logger, grants ...Grant) (*Gate, error) {
	g := &Gate{log: log}
	for _, one := range grants {
		known, err := digests(one.Tokens)
		if err != nil {
			return nil, fmt.Errorf("tokens for %s: %w", one.Name, err)
		}
		g.grants = append(g.grants, &grant{Grant: one, known: known})
	}
	return g, nil
}

// Authorize lets a call of a method ("/service/method") through, or returns the
// status that refuses it: UNAUTHENTICATED without a known token,
// PERMISSION_DENIED with one that is for something else.
func (g *Gate) Authorize(ctx context.Context, method string) (context.Context, error) {
	token, err := bearer(ctx)
	if err != nil {
		return nil, reason.Error(codes.Unauthenticated, "UNAUTHENTICATED", err.Error())
	}
	service, _, _ := strings.Cut(strings.TrimPrefix(method, "/"), "/")
	shown := digest(sha256.Sum256([]byte(token)))
	known, allowed := false, false
	for _, one := range g.grants {
		if one.holds(shown, g.log) {
			known = true
			allowed = allowed || slices.Contains(one.Services, service)
		}
	}
	switch {
	case allowed:
		return ctx, nil
	case known:
		return nil, reason.Error(codes.PermissionDenied, "PERMISSION_DENIED", "the bearer token is not for "+service)
	}
	return nil, reason.Error(codes.Unauthenticated, "UNAUTHENTICATED", "the bearer token is not known to this collector")
}

// holds compares with every token, so that time tells nothing about the list.
// When the file cannot be used, the tokens before stay in force: a file that
// went away is a mishap, and whoever wants to withdraw a token writes another.
func (g *grant) holds(shown digest, log *slog.Logger) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	tokens, err := g.Tokens.Reread()
	var known []digest
	if err == nil {
		known, err = digests(tokens)
	}
	switch {
	case err == nil:
		g.known, g.fault = known, ""
	case err.Error() != g.fault:
		g.fault = err.Error()
		log.Warn("tokens cannot be read, going on with those before", "access", g.Name, "err", err)
	}
	found := 0
	for _, k := range g.known {
		found |= subtle.ConstantTimeCompare(k[:], shown[:])
	}
	return found == 1
}

// bearer is the token that a call shows. Its errors go to the client.
func bearer(ctx context.Context) (string, error) {
	shown := metadata.ValueFromIncomingContext(ctx, "authorization")
	switch len(shown) {
	case 0:
		return "", errors.New("a bearer token is required")
	case 1:
	default:
		return "", fmt.Errorf("authorization: shown %d times; it must be once", len(shown))
	}
	scheme, token, _ := strings.Cut(shown[0], " ")
	if !strings.EqualFold(scheme, "Bearer") || token == "" {
		return "", errors.New("authorization: it must be a bearer token")
	}
	return token, nil
}

func digests(tokens cli.Secret) ([]digest, error) {
	var all []digest
	n := 0
	for line := range strings.Lines(tokens.Reveal()) {
		n++
		token := strings.TrimSpace(line)
		if token == "" {
			continue
		}
		if strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
			return nil, fmt.Errorf("line %d: a token must be printable ASCII without spaces; one a line", n)
		}
		all = append(all, sha256.Sum256([]byte(token)))
	}
	if len(all) == 0 {
		return nil, errors.New("there is no token; one a line is wanted")
	}
	return all, nil
}
