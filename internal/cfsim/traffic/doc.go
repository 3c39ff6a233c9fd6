// Package traffic is the event model behind the simulated Cloudflare API: for
// every zone and every minute of history it says what happened, from a seed
// and nothing else.
//
// A [Model] has a fixed set of [Template]s, each one combination of attributes
// (country, host, status, cache status and so on). A minute gives each template an
// [Amount]. Everything that the API shows is a sum of such amounts over
// minutes and templates, which is why its datasets agree with each other, why
// an hour or a day is as cheap as a minute once it was summed, and why the
// truth of any window can be computed again years later.
//
// [New] makes the HTTP requests of a zone, [NewEvents] its firewall events, [NewWorkers]
// the invocations in an account, and [NewSource] any other kind of event, from the table
// sources.txt: which datasets show it, which things there are, and the attributes and
// measures of their events. [SourceOf] leads from a dataset to its source.
//
// Visitors are ranges of identifiers, kept as a [ClientSet]. A set of ranges
// is exact, small, and has a real union, so that unique visitors of an hour
// are fewer than the sum over its minutes, as they are at Cloudflare.
//
// The package knows no plans, no settling, no GraphQL and no clock: it holds
// what is true, not what is shown. All types are safe for concurrent use
// unless they say otherwise.
package traffic
