// Package auth decides who may call which gRPC method: [Methods] says what each
// needs, bearer tokens say what a caller has.
//
// Tokens stand in a file, one a line, and are read again for every call: to
// replace one, add the new line, let the clients change over, drop the old line.
// A call is judged when it begins, a stream also while it runs: the server asks
// again before it sends (package grpcserver).
//
// Tokens are compared by their SHA-256 digests, each with all that are known:
// how long it takes tells nothing about them, not even their length. It is not
// meant to keep them out of a memory dump; they have enough entropy to need no
// slow hash, and none could be afforded at every call.
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

// Grant gives access to whoever shows one of its tokens.
type Grant struct {
	Access Access
	// Setting names the tokens in logs and metrics.
	Setting string
	// Tokens holds one token a line; see [Check].
	Tokens cli.Secret
}

// Check reports what is wrong with a list of tokens; see [bearer.List]. The error
// names the line and not what is in it.
func Check(tokens cli.Secret) error {
	_, err := digests(tokens.Reveal())
	return err
}

// Gate judges calls. Safe for concurrent use.
type Gate struct {
	methods  Table
	grants   []grant
	openRead bool
}

type grant struct {
	access Access
	tokens *reload.Value[string, string] // a digest after the other
}

// New returns a gate for the methods of a table; its error is that of [Check].
// Without a grant of [Read] reading is open to everybody: that is how a
// collector on loopback or in a mesh is meant to be used. Nothing of the kind
// holds for [Admin]: without a grant nobody has it.
func New(methods Table, watch *reload.Watch, grants ...Grant) (*Gate, error) {
	g := &Gate{methods: methods, openRead: true}
	for _, one := range grants {
		watch := watch
		if one.Tokens.File() == "" {
			watch = nil // it cannot change
		}
		kept, err := reload.Keep(watch, one.Setting, func() (string, error) {
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

// Authorize lets a call of a method ("/service/method") through, or returns the
// status that refuses it: UNAUTHENTICATED without a known token,
// PERMISSION_DENIED with one that is for less.
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
		return nil, reason.Error(codes.PermissionDenied, "PERMISSION_DENIED", fmt.Sprintf("the bearer token is for %s access; %s needs %s access", has, method, needs))
	}
	return nil, reason.Error(codes.Unauthenticated, "UNAUTHENTICATED", "the bearer token is not known to this collector")
}

// access is the most that a token is good for; [Open] when it is not known. It
// compares with every token, so that time tells nothing about the list.
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

// presented is the token that a call shows. Its errors go to the client.
func presented(ctx context.Context) (string, error) {
	values := metadata.ValueFromIncomingContext(ctx, "authorization")
	switch len(values) {
	case 0:
		return "", errors.New("a bearer token is required")
	case 1:
	default:
		return "", fmt.Errorf("authorization: shown %d times; it must be once", len(values))
	}
	scheme, token, _ := strings.Cut(values[0], " ")
	if !strings.EqualFold(scheme, "Bearer") || token == "" {
		return "", errors.New("authorization: it must be a bearer token")
	}
	return token, nil
}

// digests are the SHA-256 digests of the lines of a text, one after the other.
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
