# Three identities, none with a key: the function, whoever pushes messages to it, and whoever builds it.

locals {
  role_prefix = replace(var.name, "-", "_")
  function    = "serviceAccount:${google_service_account.function.email}"

  home_roles = {
    ledger      = { title = "logmend: ledger", permissions = local.permissions_ledger }
    recorder    = { title = "logmend: recorder", permissions = local.permissions_outcomes }
    dead_letter = { title = "logmend: dead letter", permissions = local.permissions_dead_letter }
    operator    = { title = "logmend: operator", permissions = local.permissions_operator }
  }
  fleet_roles = merge(
    { fleet = { title = "logmend: look after VMs (${var.mode}, ${var.executor})", permissions = local.permissions_fleet } },
    local.ssh ? { act_as = { title = "logmend: log in to VMs that run as this account", permissions = local.permissions_act_as } } : {},
  )

  vm_service_accounts = local.ssh ? merge(
    { for project, found in data.google_project.fleet : project => ["${found.number}-compute@developer.gserviceaccount.com"] },
    var.vm_service_accounts,
  ) : {}
}

resource "google_service_account" "function" {
  project      = var.project_id
  account_id   = var.name
  display_name = "logmend, the function"
  depends_on   = [time_sleep.apis]
}

resource "google_service_account" "push" {
  project      = var.project_id
  account_id   = "${var.name}-push"
  display_name = "logmend, who pushes messages to the function"
  depends_on   = [time_sleep.apis]
}

resource "google_service_account" "build" {
  project      = var.project_id
  account_id   = "${var.name}-build"
  display_name = "logmend, who builds the function"
  depends_on   = [time_sleep.apis]
}

# The function, in its own project

resource "google_project_iam_custom_role" "home" {
  for_each = local.home_roles

  project     = var.project_id
  role_id     = "${local.role_prefix}_${each.key}"
  title       = each.value.title
  description = "See functions/logmend/permissions.py."
  permissions = each.value.permissions

  depends_on = [time_sleep.apis]
}

resource "google_project_iam_member" "ledger" {
  project = var.project_id
  role    = google_project_iam_custom_role.home["ledger"].id
  member  = local.function

  condition {
    title      = "only the ledger's database"
    expression = "resource.name == \"projects/${var.project_id}/databases/${var.ledger_database}\""
  }
}

resource "google_project_iam_member" "recorder" {
  project = var.project_id
  role    = google_project_iam_custom_role.home["recorder"].id
  member  = local.function
}

resource "google_pubsub_topic_iam_member" "dead_letter_function" {
  project = var.project_id
  topic   = module.sink.dead_letter_topic_name
  role    = google_project_iam_custom_role.home["dead_letter"].id
  member  = local.function
}

resource "google_pubsub_topic_iam_member" "outcomes" {
  count = var.outcome_topic ? 1 : 0

  project = var.project_id
  topic   = google_pubsub_topic.outcomes[0].name
  role    = google_project_iam_custom_role.home["dead_letter"].id # to publish, and nothing else
  member  = local.function
}

resource "google_secret_manager_secret_iam_member" "function" {
  for_each = local.secrets

  project    = var.project_id
  secret_id  = each.value
  role       = "roles/secretmanager.secretAccessor" # on that one secret
  member     = local.function
  depends_on = [time_sleep.apis]
}

# The function, where the VMs are. A custom role holds only in the project, or organization, that defines it.

resource "google_project_iam_custom_role" "fleet" {
  for_each = local.wide ? {} : merge(
    { for project in local.projects : "${project}/fleet" => { project = project, role = "fleet" } },
    { for project in keys(local.vm_service_accounts) : "${project}/act_as" => { project = project, role = "act_as" } },
  )

  project     = each.value.project
  role_id     = "${local.role_prefix}_${each.value.role}"
  title       = local.fleet_roles[each.value.role].title
  description = "See functions/logmend/permissions.py."
  permissions = local.fleet_roles[each.value.role].permissions

  depends_on = [time_sleep.apis]
}

resource "google_organization_iam_custom_role" "fleet" {
  for_each = local.wide ? local.fleet_roles : {}

  org_id      = var.organization_id
  role_id     = "${local.role_prefix}_${each.key}"
  title       = each.value.title
  description = "See functions/logmend/permissions.py."
  permissions = each.value.permissions
}

resource "google_project_iam_member" "fleet" {
  for_each = local.wide ? toset([]) : toset(local.projects)

  project = each.key
  role    = google_project_iam_custom_role.fleet["${each.key}/fleet"].id
  member  = local.function
}

resource "google_folder_iam_member" "fleet" {
  count = var.folder_id == null ? 0 : 1

  folder = "folders/${var.folder_id}"
  role   = google_organization_iam_custom_role.fleet["fleet"].id
  member = local.function
}

resource "google_organization_iam_member" "fleet" {
  count = local.wide && var.folder_id == null ? 1 : 0

  org_id = var.organization_id
  role   = google_organization_iam_custom_role.fleet["fleet"].id
  member = local.function
}

resource "google_service_account_iam_member" "act_as" {
  for_each = merge([
    for project, accounts in local.vm_service_accounts : { for email in accounts : email => project }
  ]...)

  service_account_id = "projects/-/serviceAccounts/${each.key}"
  role = (local.wide
    ? google_organization_iam_custom_role.fleet["act_as"].id
    : google_project_iam_custom_role.fleet["${each.value}/act_as"].id
  )
  member     = local.function
  depends_on = [time_sleep.apis] # with Compute comes its default account
}

# Pub/Sub signs the tokens of the pushes, as the push account, which may call the function and nothing else.

resource "google_service_account_iam_member" "push_token" {
  service_account_id = google_service_account.push.name
  role               = "roles/iam.serviceAccountOpenIdTokenCreator"
  member             = local.service_agent["gcp-sa-pubsub"]
  depends_on         = [module.sink] # which waits until Pub/Sub's agent is there
}

resource "google_cloud_run_service_iam_member" "push" {
  project  = var.project_id
  location = var.region
  service  = google_cloudfunctions2_function.remediate.name
  role     = "roles/run.invoker"
  member   = "serviceAccount:${google_service_account.push.email}"
}

# Cloud Build builds the function as this account instead of the project's default one, which may do too much or,
# in newer organizations, nothing.

resource "google_project_iam_member" "build" {
  # cloud.google.com/functions/docs/securing/build-custom-sa
  for_each = toset(["roles/artifactregistry.writer", "roles/logging.logWriter", "roles/storage.objectViewer"])

  project = var.project_id
  role    = each.key
  member  = "serviceAccount:${google_service_account.build.email}"

  depends_on = [time_sleep.apis]
}

# People

resource "google_project_iam_member" "operator" {
  for_each = toset(var.operators)

  project = var.project_id
  role    = google_project_iam_custom_role.home["operator"].id
  member  = each.key
}

resource "google_pubsub_topic_iam_member" "operator" {
  for_each = toset(var.operators)

  project = var.project_id
  topic   = module.sink.topic_name
  role    = "roles/pubsub.publisher" # `logmend replay --publish`, and the tick after an approval
  member  = each.key
}

resource "google_pubsub_subscription_iam_member" "operator" {
  for_each = toset(var.operators)

  project      = var.project_id
  subscription = module.sink.dead_letter_subscription
  role         = "roles/pubsub.subscriber" # `logmend replay` from the dead letter
  member       = each.key
}
