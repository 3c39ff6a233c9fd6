// Package statuspage is the model of the exposer's status page: what the collector answers
// to GetStatus, GetCoverage, ListScopes and ListDatasets, and what the exposer knows itself,
// as one value that the pages and /status.json show. It does no I/O and reads no clock.
//
// A heat map has one strip for each dataset of a zone or account, and a strip has cells of
// one length. A cell has the worst state of the windows that it touches. What an answer does
// not tell is [Unknown]: a hole between ranges, a state that this release does not know, a
// dataset without coverage. Nothing unknown is ever shown as good.
//
// The contract does not tell windows that are final and empty from others, nor repairs: a
// bucket that was stored late is [Late] whatever the cause.
package statuspage
