// Package auth decides who may call which gRPC method: [Methods] lists the access that
// each requires, and bearer tokens grant access to callers.
//
// A file has one token per line and is reloaded for every call. To rotate a token, add
// the new line, switch the clients over, and remove the old line. A call is authorized
// when it begins, and a stream also while it runs (package grpcserver).
//
// Tokens are compared by their SHA-256 digests, and each with all known tokens, so that
// timing reveals nothing about them, not even their length. Tokens have enough entropy
// to need no slow hash, which would be too expensive for every call. The digests are not
// meant as a protection against memory dumps.
package auth

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"iter"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"github.com/weir-metrics/weir/internal/bearer"
	"github.com/weir-metrics/weir/internal/cli"
	"github.com/weir-metrics/weir/internal/reload"
	"github.com/weir-metrics/weir/services/collector/internal/reason"
)

// Grant gives access to callers with one of its tokens.
type Grant struct {
	Access Access
	// Setting names the tokens in logs and metrics.
	Setting string
	// Tokens has one token per line; see [Check].
	Tokens cli.Secret
}

// Check validates a list of tokens; see [bearer.List]. The error names the line but not
// its content.
func Check(tokens cli.Secret) error {
	_, err := digests(tokens.Reveal())
	return err
}

// Gate authorizes calls. Safe for concurrent use.
type Gate struct {
	methods  Table
	grants   []grant
	openRead bool
}

type grant struct {
	access Access
	tokens *reload.Value[string, string] // the digests, concatenated
}

// New returns a gate for the methods of a table; its error is that of [Check]. Without a
// grant of [Read] every caller may read, for a collector on loopback or in a service
// mesh. Without a grant of [Admin] nobody has it.
func New(methods Table, watch *reload.Watch, grants ...Grant) (*Gate, error) {
	g := &Gate{methods: methods, openRead: true}
	for _, one := range grants {
		watch := watch
		if one.Tokens.File() == "" {
			watch = nil // it cannot change
		}
		kept, err := reload.NewValue(watch, one.Setting, func() (string, error) {
			now, err := one.Tokens.Reread()
			if err != nil {
				return "", err
			}
			all, err := digests(now.Reveal())
			return all, now.Flaw(err)
		}, func(all string) (string, error) { return all, nil })
		if err != nil {
			return nil, fmt.Errorf("%s: %w", one.Setting, err)
		}
		g.grants = append(g.grants, grant{one.Access, kept})
		g.openRead = g.openRead && one.Access != Read
	}
	return g, nil
}

// Authorize allows a call of a method ("/service/method"), or returns a status:
// UNAUTHENTICATED without a known token, PERMISSION_DENIED with a token for lower
// access.
func (g *Gate) Authorize(ctx context.Context, method string) (context.Context, error) {
	needs := g.methods.Needs(method)
	if needs == Open || needs == Read && g.openRead {
		return ctx, nil
	}
	token, err := presented(ctx)
	if err != nil {
		return nil, reason.Error(codes.Unauthenticated, "UNAUTHENTICATED", err.Error())
	}
	has := g.access(token)
	switch {
	case has >= needs:
		return ctx, nil
	case has > Open:
		return nil, reason.Error(codes.PermissionDenied, "PERMISSION_DENIED", fmt.Sprintf("the bearer token grants %s access; %s requires %s access", has, method, needs))
	}
	return nil, reason.Error(codes.Unauthenticated, "UNAUTHENTICATED", "unknown bearer token")
}

// access is the highest access that a token grants; [Open] if it is unknown. It compares
// with every token, so that timing reveals nothing about the list.
func (g *Gate) access(token string) Access {
	shown := sha256.Sum256([]byte(token))
	most := Open
	for _, one := range g.grants {
		found := 0
		for known := range chunks(one.tokens.Get()) {
			found |= subtle.ConstantTimeCompare([]byte(known), shown[:])
		}
		if found == 1 {
			most = max(most, one.access)
		}
	}
	return most
}

// chunks are the digests of a list.
func chunks(all string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for ; len(all) >= sha256.Size; all = all[sha256.Size:] {
			if !yield(all[:sha256.Size]) {
				return
			}
		}
	}
}

// presented is the token of a call. Its errors are sent to the client.
func presented(ctx context.Context) (string, error) {
	values := metadata.ValueFromIncomingContext(ctx, "authorization")
	switch len(values) {
	case 0:
		return "", errors.New("a bearer token is required")
	case 1:
	default:
		return "", fmt.Errorf("authorization: the header occurs %d times; it must occur once", len(values))
	}
	scheme, token, _ := strings.Cut(values[0], " ")
	if !strings.EqualFold(scheme, "Bearer") || token == "" {
		return "", errors.New("authorization: the header must have the form 'Bearer <token>'")
	}
	return token, nil
}

// digests are the concatenated SHA-256 digests of the lines of a text.
func digests(text string) (string, error) {
	tokens, err := bearer.List(text)
	if err != nil {
		return "", err
	}
	var all []byte
	for _, token := range tokens {
		digest := sha256.Sum256([]byte(token))
		all = append(all, digest[:]...)
	}
	return string(all), nil
}
