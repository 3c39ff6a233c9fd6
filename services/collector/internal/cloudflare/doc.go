// Package cloudflare speaks to Cloudflare: the GraphQL Analytics API and the
// few REST calls that find zones and check tokens. It knows HTTP and GraphQL
// and nothing of metrics, buckets' finality or budgets: one method call is one
// request (Zones and Accounts: one per page), and whoever calls has taken the
// permit for it.
//
// # Judge the body first
//
// The API reports most errors with HTTP status 200, its edge answers some
// requests with HTML, and one refused zone or field voids a whole answer. So
// every reply is read and judged as a whole before any number of it is
// believed: it is either a [Response] that contains every selection for every
// visible zone, or an [*Error] with a [Class] that says what to do. There is no
// partial success: data beside errors is an error.
//
// # Secrets
//
// The token is fetched anew for every request, so that a rotated file takes
// effect, and appears in nothing but the Authorization header: not in errors,
// not in logs, not even when the other side echoes it. Redirects are not
// followed, since they could carry it elsewhere.
package cloudflare
