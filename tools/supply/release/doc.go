// Package release has the parts of a release that depend on more than one file of the
// repository: which version it is and whether all files agree, what the changelog says
// of it, the archives, and the modules as a module proxy serves them.
//
// What it writes depends on the commit alone, so that a release can be built again and
// compared.
package release
