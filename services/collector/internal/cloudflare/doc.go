// Package cloudflare is the client of Cloudflare's GraphQL Analytics API and of the REST
// calls that list zones and accounts. It does not know metrics, finality or budgets. One
// method call is one request (Zones and Accounts: one per page), for which the caller has
// a permit.
//
// # Responses are validated as a whole
//
// The API reports most errors with HTTP status 200, its edge sends HTML for some errors,
// and one refused zone or field makes a whole response unusable. So every body is read
// and validated completely before any value of it is used. The result is either a
// [Response] with every selection of every visible zone, or an [*Error] with a [Class]
// that determines how to proceed. There is no partial success: a response with data and
// errors is an error.
//
// # Secrets
//
// The token is read for every request, so that a rotation takes effect. It is sent only in
// the Authorization header and never appears in errors or logs, even if a response
// contains it. Redirects are not followed, since they could send it to another host.
package cloudflare
