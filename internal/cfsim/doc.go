// Package cfsim simulates Cloudflare's GraphQL Analytics API and the REST
// calls that exporters make, for demonstrations and for tests that compare
// what ends up in Prometheus with what really happened.
//
// It is written from a description of the API, not from the client that it
// tests, and never imports that client: the two must be able to disagree.
//
//	sim, err := cfsim.New(cfsim.Demo(clk, 1))    // or a Config of your own
//	server := httptest.NewServer(sim)            // base URL of a client: server.URL + "/client/v4"
//	truth, err := sim.True(zoneID, start, end)   // what must be stored in the end
//	any, err := sim.Truth(cfsim.Question{…})     // the same of any dataset, by any dimensions and measures
//	log := sim.Requests()                        // what was asked
//	id, err := sim.Inject(cfsim.Fault{Kind: cfsim.FaultHTML, Status: 502, Count: 3})
//	err = sim.Serve(ctx, listener)               // a program of its own, until ctx ends
//
// Package scenario reads a Config from YAML. Package cfsimtest starts it for a test, over HTTP, over TLS, or without any
// network inside a synctest bubble. [Server.Admin] is for people and for other
// processes. A refused connection is the one fault that a handler cannot play:
// end the context of Serve.
//
// # What is true and what is shown
//
// Package traffic holds what happened, per zone and minute. A reader sees it
// through [Settling]: fresh minutes are partial, unevenly so, and grow until
// they are final. True values are those at age infinity. Without late
// revisions (the default) a minute equals its truth exactly once its end is
// 225 seconds old, or 6 minutes for a straggler, times the dataset's scale;
// with them, before the last revision it shows something else. [Server.Shown] gives
// the value that would be answered at another instant.
//
// All datasets are sums over the same events: roll-ups count end users'
// requests, and so does httpRequestsAdaptiveGroups with requestSource
// "eyeball"; without that filter worker subrequests come on top. They agree
// to the last request unless [Sampling] is on.
//
// # What is modelled
//
// Every dataset in package schema has events of its own; any other name is an unknown
// field. HTTP requests and firewall events happen in zones that have a
// [traffic.Profile], below zones and below their accounts; [traffic.Wide] is that of a
// busy site with hundreds of countries, data centres, networks, hosts and paths.
// Invocations of Workers happen where [Account.Workers] has scripts. All else comes
// from the table traffic/sources.txt and happens where the product is one of
// [Zone.Products] or [Account.Products]: health checks, load balancing, logpush, DNS,
// waiting rooms, R2, tunnels and networks, Stream, Durable Objects, D1, KV, queues and
// more. A zone or account without the product answers with an empty list. REST has the
// load balancers, pools and rules that the events name, and Zero Trust tunnels,
// certificate packs and custom hostnames.
//
// Where events are samples of something that goes on, "max" shows its level: stored
// bytes change every hour. Raw load balancing requests show the state of all pools.
//
// Not modelled: lists among the dimensions (empty), scores of attacks, requests from
// zone to zone, and the packet fields of networks beyond addresses, ports, protocols,
// places, outcomes and mitigations; these dimensions are "" or 0. Of the network
// datasets the lists of dimensions are inferred from the one that was published whole.
//
// # Chance
//
// Equal configurations give equal worlds. What depends on the order of
// requests (samples, shuffles, the chance of faults) repeats only if the
// requests come in the same order.
//
// # Faults
//
// A [Fault] strikes the transport, refuses in words, or spoils data. Refusals (every
// published one of a token: [FaultTokenInvalid], [FaultTokenUnknown],
// [FaultAuthentication], [FaultUnauthorized], [FaultAccountDenied], [FaultPermission],
// [FaultAuthInternal], [FaultLocation], [FaultZonesDenied]; and [FaultRefusal],
// [FaultTooManyFields], [FaultTooManyRequests]) take status, words and envelope from Fault.Status and
// Fault.Refusal, so that any error body can be played, for all requests or for those
// that ask for a zone or a dataset. Odd values ([FaultZoneName], [FaultAccountName],
// [FaultZoneCreated], [FaultZonePaused], [FaultDimension], [FaultTime], [FaultNumber]) replace strings and numbers by what
// hardly anybody expects. They are a matter of what is sent alone: [Server.True],
// [Server.Truth], [Server.TrueGroups], [Server.TrueWorkers] and [Server.Zones] tell the values that they took the place of.
//
// # Where the description is silent
//
// [Switches] has a default for each open point. Beyond those, the simulator
// refuses an orderBy over a dimension that was not selected, lists maps in
// availableFields both by their own name and by those of their fields, counts
// each distinct leaf once towards maxNumberOfFields, does not charge refused
// requests to the budget, names permissions of load balancers, tunnels and certificates
// as it likes and refuses without them as an authentication error, and lets the visitors of different zones of one
// account be different people.
package cfsim
