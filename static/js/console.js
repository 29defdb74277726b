// The console's pages work without it; it brings local times and running countdowns.
import "./leases.js";
