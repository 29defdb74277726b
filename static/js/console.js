// The console's pages work without it; it brings local times and running countdowns.
import "./heard.js";
import "./leases.js";
import "./live.js";
