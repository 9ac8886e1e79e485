# Enabling an API costs nothing; `terraform destroy` leaves them enabled, since others may have come to need them.

locals {
  home_apis = concat(
    [
      "artifactregistry.googleapis.com",
      "cloudbuild.googleapis.com",
      "cloudfunctions.googleapis.com",
      "cloudresourcemanager.googleapis.com", # projects' numbers and their IAM policies
      "cloudscheduler.googleapis.com",
      "compute.googleapis.com",
      "firestore.googleapis.com",
      "iam.googleapis.com",
      "logging.googleapis.com",
      "monitoring.googleapis.com",
      "pubsub.googleapis.com",
      "run.googleapis.com",
      "storage.googleapis.com",
    ],
    local.fleet_apis,
    local.direct ? ["vpcaccess.googleapis.com"] : [],
    length(local.secrets) > 0 ? ["secretmanager.googleapis.com"] : [],
  )
  # A client's project needs an API enabled as well as the project that is asked about.
  fleet_apis = concat(
    ["compute.googleapis.com"],
    local.ssh ? ["oslogin.googleapis.com"] : [],
    local.ssh && var.ssh_route == "iap" ? ["iap.googleapis.com"] : [],
    local.osconfig ? ["osconfig.googleapis.com"] : [],
  )
}

resource "google_project_service" "home" {
  for_each = toset(local.home_apis)

  project            = var.project_id
  service            = each.key
  disable_on_destroy = false
}

resource "google_project_service" "fleet" {
  for_each = {
    for pair in setproduct(setsubtract(local.projects, [var.project_id]), local.fleet_apis) : "${pair[0]}/${pair[1]}" => pair
  }

  project            = each.value[0]
  service            = each.value[1]
  disable_on_destroy = false
}
