// Package image makes container images of the binaries without a container engine.
//
// What an image has is written once, in deploy/Dockerfile, which docker build reads too.
// Parse reads the few instructions that an image from nothing needs and refuses others;
// Build makes an OCI image index of several platforms from a stage and folders of
// binaries; Write puts it into an OCI archive, from which skopeo copies it to a registry.
//
// Equal binaries, version, revision and time give equal archives, byte by byte.
package image
