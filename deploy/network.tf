# The way in for ssh. Through IAP a rule for Google's relay is enough; the direct route has the function's traffic
# come out of a VPC connector. (Direct VPC egress would need none, but google_cloudfunctions2_function cannot ask
# for it before provider 7; deploy/gcloud.sh can.)

locals {
  # cloud.google.com/iap/docs/using-tcp-forwarding#create-firewall-rule
  ssh_sources = var.ssh_route == "iap" ? ["35.235.240.0/20"] : var.connector[*].ip_cidr_range
}

resource "google_compute_firewall" "ssh" {
  for_each = local.ssh ? toset(var.ssh_networks) : toset([])

  project       = split("/", each.key)[1]
  network       = each.key
  name          = "${var.name}-ssh-${var.ssh_route}"
  description   = "Lets logmend's ssh in."
  direction     = "INGRESS"
  source_ranges = local.ssh_sources
  target_tags   = length(var.ssh_target_tags) > 0 ? var.ssh_target_tags : null

  allow {
    protocol = "tcp"
    ports    = ["22"]
  }
  log_config {
    metadata = "EXCLUDE_ALL_METADATA"
  }

  depends_on = [time_sleep.apis]
}

resource "google_vpc_access_connector" "direct" {
  count = local.direct ? 1 : 0

  project       = var.project_id
  region        = var.region
  name          = var.name
  network       = var.connector.network
  ip_cidr_range = var.connector.ip_cidr_range
  min_instances = 2 # the least there is
  max_instances = 3

  depends_on = [time_sleep.apis]
}
