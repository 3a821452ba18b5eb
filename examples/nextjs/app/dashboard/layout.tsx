import Link from "next/link";
import type { ReactNode } from "react";

export default function DashboardLayout({ children }: { children: ReactNode }) {
  return (
    <>
      <nav className="row">
        <Link href="/dashboard">Overview</Link>
        <Link href="/dashboard/settings">Settings</Link>
        <Link href="/dashboard/activity" prefetch={true}>
          Activity
        </Link>
        <Link href="/admin">Admin</Link>
        <a href="/legacy">Legacy</a>
      </nav>
      {children}
    </>
  );
}
