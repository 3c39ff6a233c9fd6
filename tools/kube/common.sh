# Sourced by the scripts of this folder: where the programs are kept, and the state of the
# cluster while it is up.
kube_cache=${WEIR_TOOLS_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/weir}/kube
export BIN=$kube_cache/bin LAB=${LAB:-$kube_cache/run}
export PATH=$BIN:$PATH KUBECONFIG=$LAB/admin.kubeconfig
