package cloudflare

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// TokenStatus is what Cloudflare says about the token that a request was made with.
type TokenStatus struct {
	Status    string    `json:"status"` // "active", "disabled", "expired"
	NotBefore time.Time `json:"not_before"`
	ExpiresOn time.Time `json:"expires_on"` // zero: it does not expire
}

// VerifyToken asks about a token that belongs to a user.
func (c *Client) VerifyToken(ctx context.Context) (TokenStatus, error) {
	return c.verify(ctx, "user", "tokens", "verify")
}

// VerifyAccountToken asks about a token that belongs to an account, which
// [Client.VerifyToken] does not know.
func (c *Client) VerifyAccountToken(ctx context.Context, account string) (TokenStatus, error) {
	if !tagPattern.MatchString(account) {
		return TokenStatus{}, errors.New("verify the token: the account's id is not a tag of 32 hex digits")
	}
	return c.verify(ctx, "accounts", account, "tokens", "verify")
}

func (c *Client) verify(ctx context.Context, path ...string) (TokenStatus, error) {
	status, _, err := get[TokenStatus](ctx, c, c.base.JoinPath(path...), 1)
	if err != nil {
		return TokenStatus{}, fmt.Errorf("verify the token: %w", err)
	}
	if status.Status == "" {
		return TokenStatus{}, fmt.Errorf("verify the token: %w", &Error{Class: BadResponse, Message: "the response has no status"})
	}
	return status, nil
}
